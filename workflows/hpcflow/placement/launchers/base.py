"""What every dialect hands back: the words of a launch line, the environment it needs, the files beside the
script.

A word is text, or something that only the running job knows; `shell` turns it into one word of a bash script.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hpcflow.placement.rankmap import RankMap

Scheduler = Literal["slurm", "local"]
Grain = Literal["cores", "pus"]


@dataclass(frozen=True)
class HostList:
    """The allocation's hosts with commas between them, each followed by ``:slots`` where slots are given."""

    slots: int | None = None

    def shell(self) -> str:
        """$HPCFLOW_HOSTS, which the script sets; bash 4 puts the slots in."""
        if self.slots is None:
            return '"$HPCFLOW_HOSTS"'
        return f'"${{HPCFLOW_HOSTS//,/:{self.slots},}}:{self.slots}"'

    def __str__(self) -> str:
        return "HOSTS" if self.slots is None else f"HOST:{self.slots},..."


@dataclass(frozen=True)
class JobFile:
    """A file of ``LaunchLine.files``, in the job's folder; ``prefix`` stands before its path in the same
    word.
    """

    name: str
    prefix: str = ""

    def shell(self) -> str:
        """$HPCFLOW_JOB_DIR/name."""
        return f'{shlex.quote(self.prefix) if self.prefix else ""}"$HPCFLOW_JOB_DIR"/{shlex.quote(self.name)}'

    def __str__(self) -> str:
        return f"{self.prefix}{self.name}"


@dataclass(frozen=True)
class Nested:
    """Words in one word: arguments that a launcher hands to another one through a shell (horovodrun).

    ``prefix`` stands before them in the same word, as in --binding-args=.
    """

    words: tuple[str | JobFile, ...]
    prefix: str = ""

    def shell(self) -> str:
        """One word whose content is a shell line again; bash 4.4 quotes the variable for the second shell."""
        parts = [""]
        for word in self.words:
            blank = " " if parts != [""] else ""
            if isinstance(word, str):
                parts[-1] += blank + shlex.quote(word)
            else:
                parts[-1] += blank + (shlex.quote(word.prefix) if word.prefix else "")
                parts += ['"${HPCFLOW_JOB_DIR@Q}"', f"/{shlex.quote(word.name)}"]
        quoted = [part if part.startswith('"$') else shlex.quote(part) for part in parts if part]
        return self.prefix + "".join(quoted)

    def __str__(self) -> str:
        return self.prefix + shlex.join(map(str, self.words))


Word = str | HostList | JobFile | Nested


def shell(word: Word) -> str:
    """A word as bash text, quoted once."""
    return shlex.quote(word) if isinstance(word, str) else word.shell()


@dataclass(frozen=True)
class LaunchLine:
    """One launch of a rank map.

    ``env`` is to be exported before the line runs (what the launcher reads, and what it forwards by name);
    ``files`` go into the job's folder under these names before submission. ``grain`` says what a rank is
    bound to: whole "cores" (all hardware threads of the rank's cores) or exactly the planned "pus".
    """

    argv: tuple[Word, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    grain: Grain = "cores"

    def script(self) -> str:
        """The line as bash, one word after another."""
        return " ".join(map(shell, self.argv))

    def words(self) -> list[str]:
        """The line for reading and for JSON: placeholders by their plain names."""
        return [word if isinstance(word, str) else str(word) for word in self.argv]


@dataclass(frozen=True)
class Launch:
    """What a dialect is asked to say.

    ``env`` goes to every rank; ``hosts`` are named in the line only where neither a scheduler nor the
    launcher knows them; ``mpi`` is srun's --mpi=; ``command`` is the launcher's name on PATH where it has not its
    usual one.
    """

    rankmap: RankMap
    program: Sequence[str]
    version: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    scheduler: Scheduler | None = None
    hosts: tuple[str, ...] | None = None
    as_root: bool = False
    mpi: str | None = None
    command: str | None = None

    def at_least(self, *wanted: int) -> bool:
        """Whether the launcher's version is known and not older than ``wanted``."""
        return self.version is not None and version_numbers(self.version) >= wanted


def version_numbers(text: str) -> tuple[int, ...]:
    """5.0.11rc2 as (5, 0, 11); 23.02.7-1 as (23, 2, 7)."""
    numbers: list[int] = []
    for part in text.replace("-", ".").split("."):
        digits = ""
        for character in part:
            if not character.isdecimal():
                break
            digits += character
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
