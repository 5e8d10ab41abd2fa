"""Building an image, with its progress shown and its origin kept: `hpcflow container build`.

What an image was made from is digested; an image whose digest is still that is left alone (note.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import hpcflow
from hpcflow.containers.definition import Definition
from hpcflow.containers.note import LABEL, Note, note_path, obstacle, read_note
from hpcflow.containers.runtime import Runtime, clean
from hpcflow.containers.tree import digest, summary
from hpcflow.engines.ask import ask
from hpcflow.errors import InputError, SiteError
from hpcflow.storage.publish import publish_json

CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
TAIL = 25  # lines of a failed build that are shown
QUICK = ("-comp", "zstd", "-Xcompression-level", "3")


def _mirror() -> str:
    """The Debian mirror of this machine's own apt. Raises InputError where there is none."""
    listed = ask(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"], 10.0
    ).out.split()
    for uri in listed:
        if uri.rstrip("/").endswith("/debian"):
            return uri
    raise InputError("no Debian mirror is known here: name one with --arg MIRROR=URL")


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
    with _told(image):
        inputs = definition.inputs({**given, "sandbox": str(sandbox)})
        _refuse_to_lose(image, definition, given, force=force)
    before = read_note(image)
    if before and before.inputs == inputs and not force:
        return before, False
    commit = _commit()
    if definition.needs_mirror and "MIRROR" not in given:
        given["MIRROR"] = _mirror()
    labels = {LABEL: inputs, "hpcflow.version": hpcflow.__version__, "hpcflow.commit": commit}
    started = time.monotonic()
    with _told(image):
        image.parent.mkdir(parents=True, exist_ok=True)
        # Files that belong to other users of the image may resist; what is built is whole all the same.
        temporary = tempfile.TemporaryDirectory(
            prefix=".build-", dir=image.parent, ignore_cleanup_errors=True
        )
        with temporary as folder:
            context = Path(folder, "context")
            context.mkdir()
            source, begin = definition.gather(context, _lent() if definition.own else {}, labels)
            made = Path(folder, image.name)
            words = [runtime.path, "build", "--fakeroot", *(["--sandbox"] if sandbox else [])]
            words += [] if sandbox else ["--mksquashfs-args", " ".join(QUICK)]
            words += [word for bind in _binds() if definition.own for word in ("--bind", bind)]
            words += [word for name, value in given.items() for word in ("--build-arg", f"{name}={value}")]
            _run(["env", "-C", str(begin), *words, *options, str(made), str(source)], say)
            _replace(made, image)
        if Path(folder).exists():
            say(f"{folder} could not be removed whole (unshare --map-auto --map-root-user rm -rf it)")
        found = summary(image)
        note = Note(
            definition=definition.name,
            inputs=inputs,
            sha256=_digest(image),
            **asdict(found),
            built=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - started, 1),
            runtime=f"{runtime.name} {runtime.version}",
            hpcflow=hpcflow.__version__,
            commit=commit,
        )
        publish_json(note_path(image), asdict(note))
    return note, True


def _digest(image: Path) -> str | None:
    """None where files of an image directory may not be read by who built it."""
    try:
        return digest(image)
    except PermissionError:
        return None


@contextlib.contextmanager
def _told(image: Path) -> Iterator[None]:
    """A file system that refuses, in one sentence."""
    try:
        yield
    except OSError as error:
        raise SiteError(
            f"{image} cannot be built: {error.strerror or error}: {error.filename} (read what it is made from, and "
            "write where -o says, by hand to see why)"
        ) from None


def _refuse_to_lose(
    image: Path, definition: Definition, arguments: Mapping[str, str], *, force: bool
) -> None:
    """Raise InputError where the image would take the place of what is no image, or of what it is made from."""
    for source in (definition.path, *definition.reads(arguments), *definition.bases(arguments)):
        if image.exists() and source.exists() and image.samefile(source):
            raise InputError(f"{image} is what the image is made from (name another image with -o)")
    if reason := obstacle(image, force=force):
        raise InputError(reason)


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
