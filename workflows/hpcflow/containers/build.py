"""Building an image, with its progress shown and its origin kept: `hpcflow container build`.

What an image was made from is digested; an image whose digest is still that is left alone. The note of it, IMAGE.json,
lies beside the image and goes into the provenance of every run that uses it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hpcflow
from hpcflow.containers.definition import Definition
from hpcflow.containers.runtime import Runtime, clean
from hpcflow.engines.ask import ask
from hpcflow.errors import InputError, SiteError
from hpcflow.storage.publish import publish_json, read_published

CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
TAIL = 25  # lines of a failed build that are shown
QUICK = ("-comp", "zstd", "-Xcompression-level", "3")


@dataclass(frozen=True)
class Note:
    """What is kept of an image. ``sha256`` is that of a SIF; a directory of files has none."""

    definition: str
    inputs: str
    sha256: str | None
    size: int
    mtime_ns: int
    built: str
    seconds: float
    runtime: str
    hpcflow: str
    commit: str

    def of(self, image: Path) -> bool:
        """Whether this is the note of the file that is there now."""
        found = image.stat()
        return image.is_dir() or (found.st_size, found.st_mtime_ns) == (self.size, self.mtime_ns)


def _mirror() -> str:
    """The Debian mirror of this machine's own apt. Raises InputError where there is none."""
    listed = ask(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"], 10.0
    ).out.split()
    for uri in listed:
        if uri.rstrip("/").endswith("/debian"):
            return uri
    raise InputError("no Debian mirror is known here: name one with --arg MIRROR=URL")


def note_path(image: Path) -> Path:
    """IMAGE.json."""
    return image.with_name(image.name + ".json")


def read_note(image: Path) -> Note | None:
    """The note beside an image, if it is of this very image."""
    import json

    try:
        note = Note(**json.loads(read_published(note_path(image), patience_s=0)))
        return note if note.of(image) else None
    except (OSError, ValueError, TypeError):
        return None


def about(image: Path) -> dict[str, Any]:
    """An image for the provenance of a run: its digest and where it came from."""
    note = read_note(image)
    if note:
        return {"image": str(image), **asdict(note)}
    return {"image": str(image), "sha256": None if image.is_dir() else digest(image)}


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build(
    definition: Definition,
    image: Path,
    runtime: Runtime,
    *,
    sandbox: bool = False,
    force: bool = False,
    arguments: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> tuple[Note, bool]:
    """Make ``image`` unless it is there and unchanged; its note, and whether it was built now.

    It appears under its name when it is whole. Raises SiteError with the end of the build's output.
    """
    given = dict(arguments or {})
    inputs = definition.inputs({**given, "sandbox": str(sandbox)})
    before = read_note(image) if image.exists() else None
    if before and before.inputs == inputs and not force:
        return before, False
    commit = _commit()
    if definition.needs_mirror and "MIRROR" not in given:
        given["MIRROR"] = _mirror()
    labels = {"INPUTS": inputs, "HPCFLOW": hpcflow.__version__, "COMMIT": commit} if definition.own else {}
    started = time.monotonic()
    image.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=image.parent) as folder:
        context = Path(folder, "context")
        context.mkdir()
        definition_file = definition.gather(context, _lent() if definition.own else {})
        made = Path(folder, image.name)
        words = [runtime.path, "build", "--fakeroot", *(["--sandbox"] if sandbox else [])]
        words += [] if sandbox else ["--mksquashfs-args", " ".join(QUICK)]
        words += [word for bind in _binds() if definition.own for word in ("--bind", bind)]
        words += [
            word for name, value in {**labels, **given}.items() for word in ("--build-arg", f"{name}={value}")
        ]
        words += [*options, str(made), definition_file.name]
        _run(["env", "-C", str(context), *words], say)
        _replace(made, image)
    found = image.stat()
    note = Note(
        definition=definition.name,
        inputs=inputs,
        sha256=None if sandbox else digest(image),
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        built=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 1),
        runtime=f"{runtime.name} {runtime.version}",
        hpcflow=hpcflow.__version__,
        commit=commit,
    )
    publish_json(note_path(image), asdict(note))
    return note, True


def _run(words: list[str], say: Callable[[str], None]) -> None:
    from spython.utils.terminal import stream_command

    last: list[str] = []
    try:
        for line in stream_command(words, output_type="both"):
            text = line.rstrip()
            last = [*last, text][-TAIL:]
            if text:
                say(text)
    except subprocess.CalledProcessError as error:
        end = "\n".join(last)
        raise SiteError(
            f"the build ended with exit code {error.returncode}; its last lines:\n{end}"
        ) from None


def _replace(made: Path, image: Path) -> None:
    """Put what was made in the place of what was there; of a directory the old one is moved away first."""
    if image.is_dir():
        old = made.with_name("old")
        image.rename(old)
    made.rename(image)


def _lent() -> dict[str, Path]:
    """uv and certificates of this machine, where they are."""
    lent = {}
    uv = Path(sys.prefix, ".uv", "bin", "uv")
    if uv.is_file():
        lent["uv"] = uv
    certificates = next((Path(path) for path in CERTIFICATES if Path(path).is_file()), None)
    if certificates:
        lent["ca-certificates.crt"] = certificates
    return lent


def _binds() -> list[str]:
    """uv's cache, writable: what this machine downloaded or compiled once serves the image too."""
    cache = Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv")
    return [f"{cache}:/mnt"] if (cache / "CACHEDIR.TAG").is_file() and ":" not in str(cache) else []


def _commit() -> str:
    """The commit of hpcflow's checkout, with a + where it has changes."""
    git = shutil.which("git")
    folder = Path(hpcflow.__file__).parent

    def ask(*words: str) -> str:
        return subprocess.run(
            [str(git), "-C", str(folder), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
            env=clean(),
        ).stdout.strip()

    try:
        return ask("rev-parse", "HEAD") + ("+" if ask("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
