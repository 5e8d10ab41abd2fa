"""A Dockerfile spelt so that spython's conversion carries it.

spython 0.3 reads line by line, splits at blanks, and knows one spelling of most instructions: it takes a continued
line that begins with "add" for an instruction, `LABEL a=b c=d` for one label, `CMD tool` for a script of bash. What
can be said in the spelling it knows is said in that here; what cannot is a loss.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hpcflow.containers.instructions import BREAK, Instruction

NEWLINE = "\1"
"""Becomes a line of its own behind the conversion; no character of a Dockerfile."""
_WORD = re.compile(r"""(?:\\.|"(?:\\.|[^"\\])*"|'[^']*'|[^\s"'\\]|\\$)+""")
_PIECE = re.compile(r"""\\(?P<escaped>.)|"(?P<double>(?:\\.|[^"\\])*)"|'(?P<single>[^']*)'|(?P<plain>.)""")
_VARIABLE = re.compile(r"\$(?:\{\w+[^}]*\}|\w+)")
_COMMENT = re.compile(r"(?:^|[\s;&|(])#")
# In a Dockerfile every RUN has a shell of its own; in %post all share one.
_LASTING = re.compile(r"(?:^|[\s;&|(])(?:cd|exit|export|set|umask|exec|unset|trap|alias|\.|source)\s")
_ARCHIVE = re.compile(r"\.(tar|tgz|tbz2?|txz|gz|gzip|bz2|xz|zst)$", re.IGNORECASE)
_ADDRESS = re.compile(r"\w+://|git@|.*\.git(#.*)?$")


class Lost(ValueError):
    """An instruction has no spelling that survives; says why, and what would."""


class Respelling:
    """Instructions of a Dockerfile in ``folder`` in spython's spelling, for a definition in the folder ``into``."""

    def __init__(self, folder: Path, into: Path, stages: int) -> None:
        self._folder = folder
        self._sources = Path(os.path.relpath(folder, into))
        self._stages = stages
        self._work = ""  # WORKDIR, once it is known: that of the base image is not
        self._arguments: dict[str, str] = {}
        self._entry: tuple[str, bool] | None = None
        self._command: tuple[str, bool] | None = None
        self._ways: dict[str, Callable[[Instruction], Iterator[str]]] = {
            "FROM": self._from,
            "ARG": self._arg,
            "ENV": self._env,
            "LABEL": self._label,
            "MAINTAINER": lambda each: iter([f"LABEL maintainer {each.rest}"]),
            "RUN": self._run,
            "COPY": self._copy,
            "ADD": self._copy,
            "WORKDIR": self._workdir,
            "ENTRYPOINT": self._start,
            "CMD": self._start,
            **dict.fromkeys(("USER", "HEALTHCHECK", "SHELL", "ONBUILD"), lambda each: iter(())),
        }

    def lines(self, each: Instruction) -> list[str]:
        """Lines that say the same as ``each``. Raises Lost."""
        way = self._ways.get(each.name)
        return list(way(each)) if way else [str(each)]

    def last(self) -> list[str]:
        """The one line of ENTRYPOINT and CMD, which spython would put behind /bin/bash."""
        words, listed = self._entry or ("", True)
        if self._command and listed:
            words = f"{words} {self._command[0]}".strip()
        return [f"ENTRYPOINT exec {words}"] if words else []

    def _from(self, each: Instruction) -> Iterator[str]:
        words = [word for word in each.rest.split() if not word.startswith("--")]
        image = re.sub(
            r"\$\{?(\w+)\}?", lambda found: self._arguments.get(found[1], found[0]), words[0] if words else ""
        )
        if not image or "$" in image:
            raise Lost("its image is not known here (name it plainly, or give its ARG a default)")
        self._work, self._entry, self._command = "", None, None
        yield " ".join(["FROM", image, *(words[1:] if self._stages > 1 else [])])

    def _arg(self, each: Instruction) -> Iterator[str]:
        for name, raw in _assignments(each.rest):
            if raw is not None:
                self._arguments[name] = _text(raw)
                yield f"ARG {name}={_shell(raw)}"
            elif name not in self._arguments:  # else it is the one above FROM, which %post has
                raise Lost(f"{name} has no default, so it is dropped (give it one)")

    def _env(self, each: Instruction) -> Iterator[str]:
        for name, raw in _pairs(each):
            yield f"ENV {name}={_shell(raw)}"

    def _label(self, each: Instruction) -> Iterator[str]:
        for name, raw in _pairs(each):
            if re.search(r"\s", _text(name)):
                raise Lost("a label's name with blanks in it (use another name)")
            if _VARIABLE.search(raw):
                raise Lost("variables in labels are not replaced (write the value)")
            yield f"LABEL {_text(name)} {_text(raw)}"

    def _run(self, each: Instruction) -> Iterator[str]:
        # A comment reaches to the end of the joined line, so such lines are not parted again.
        commented = _COMMENT.search(each.rest) is not None
        text = each.rest if commented else each.broken
        if _LASTING.search(each.rest):
            text = f"( {text}{NEWLINE if commented else ' '})"
        yield f"RUN {text}"

    def _copy(self, each: Instruction) -> Iterator[str]:
        words = _listed(each.rest) or each.rest.split()
        if option := next((word for word in words if word.startswith("--")), None):
            if option.startswith("--from"):
                raise Lost(
                    "files of another stage or image are not copied (build it first, and copy from it)"
                )
            raise Lost(f"{option.partition('=')[0]} is no option of %files (remove it)")
        if len(words) < 2:
            raise Lost("needs a source and a target (complete it)")
        if any(re.search(r"[$\s\"'\\]", word) for word in (*words, str(self._sources))):
            raise Lost("blanks, quotes and variables in file names do not survive (rename the files)")
        *sources, target = words
        for source in sources:
            if each.name == "ADD" and _ADDRESS.match(source):
                raise Lost("an address is not fetched as Docker does (write a RUN that fetches it)")
            if each.name == "ADD" and _ARCHIVE.search(source):
                raise Lost(
                    "an archive is not unpacked as Docker does (write COPY, and a RUN that unpacks it)"
                )
        for source in sources:
            yield f"COPY {self._source(source)} {self._target(target)}"

    def _source(self, source: str) -> str:
        """Docker copies what is in a folder, Apptainer the folder. Absolute names mean the Dockerfile's folder."""
        relative = source.lstrip("/") or "."
        found = posixpath.join(self._sources, relative) if self._sources != Path() else relative
        return f"{found.rstrip('/')}/." if (self._folder / relative).is_dir() else found

    def _target(self, target: str) -> str:
        if not target.startswith("/") and not self._work:
            raise Lost("its target is relative, and the base image's WORKDIR is not known (write it whole)")
        whole = posixpath.normpath(posixpath.join(self._work, target))
        return f"{whole}/" if whole != "/" and target.endswith(("/", ".")) else whole

    def _workdir(self, each: Instruction) -> Iterator[str]:
        folder = _text(each.rest)
        if re.search(r"[\s\"'\\$]", folder):
            raise Lost("blanks, quotes and variables in it do not survive (write it plainly)")
        if not folder.startswith("/") and not self._work:
            raise Lost("is relative to the base image's, which is not known (write it whole)")
        self._work = posixpath.normpath(posixpath.join(self._work, folder))
        yield f"WORKDIR {self._work}"

    def _start(self, each: Instruction) -> Iterator[str]:
        listed = _listed(each.rest)
        words = shlex.join(listed) if listed else f"/bin/sh -c {shlex.quote(each.rest)}"
        if each.name == "CMD":
            self._command = (words, bool(listed))
        else:
            self._entry = (words, bool(listed))
        return iter(())


def _listed(text: str) -> list[str]:
    """The words of the list form; empty for text in the other one."""
    try:
        found = json.loads(text) if text.startswith("[") else []
    except ValueError:
        return []
    return found if all(isinstance(word, str) for word in found) else []


def _assignments(text: str) -> Iterator[tuple[str, str | None]]:
    """NAME=VALUE words, the value as it is written; None where there is none."""
    for word in _WORD.findall(text):
        name, equals, raw = word.partition("=")
        yield name, raw if equals else None


def _pairs(each: Instruction) -> Iterator[tuple[str, str]]:
    """Of ENV and LABEL, which know an older spelling: NAME and all the rest as one value."""
    found = list(_assignments(each.rest))
    if found[:1] and found[0][1] is None:
        name, _, raw = each.rest.partition(" ")
        found = [(name, raw.strip() or None)]
    for name, value in found:
        if value is None:
            raise Lost(f"{name} has no value (write {name}=VALUE)")
        yield name, value


def _pieces(raw: str) -> Iterator[tuple[str, bool]]:
    """What a value is made of, without its quotes: text, and whether variables in it are replaced."""
    for piece in _PIECE.finditer(raw):
        if piece["double"] is not None:
            for part in re.finditer(r"\\(?P<escaped>[\"\\$])|(?P<plain>.)", piece["double"]):
                yield part["escaped"] or part["plain"], part["plain"] is not None
        else:
            yield piece["escaped"] or piece["single"] or piece["plain"] or "", piece["plain"] is not None


def _text(raw: str) -> str:
    """A value without its quotes."""
    return "".join(text for text, _ in _pieces(raw))


def _shell(raw: str) -> str:
    """A value as one word of sh: Docker replaces variables in it and runs nothing. Raises Lost."""
    if re.fullmatch(r"(?:[\w./:,@%+-]|\$\w+|\$\{\w+\})+", raw):
        return raw
    made = "".join(text if live else re.sub(r"[$`\\]", r"\\\g<0>", text) for text, live in _pieces(raw))
    made = re.sub(r"(?<!\\)`|(?<!\\)\$(?![\w{])", r"\\\g<0>", made)
    if '"' in made:
        raise Lost("a quote in a value does not survive (write it without)")
    return f'"{made}"'


def undone(text: str) -> str:
    """What spython made of respelt lines, with lines parted again.

    It takes what begins with USER for the instruction, also in a command or a variable's name.
    """
    text = re.sub(r"^su - .* # (USER.*)$", r"\1", text, flags=re.MULTILINE)
    return text.replace(BREAK, "\\\n").replace(NEWLINE, "\n")


def stages(instructions: Sequence[Instruction]) -> int:
    """How many there are."""
    return sum(each.name == "FROM" for each in instructions)
