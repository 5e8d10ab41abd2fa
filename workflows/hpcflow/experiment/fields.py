"""Field types of the schema: text that may stand in a script, names, times, sizes.

Control characters are refused everywhere: they are what breaks a script or a directive over two lines. All other
text is legal and is quoted where it becomes shell.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from hpcflow.experiment.document import Written, shown


class Section(BaseModel):
    """A section of the experiment: immutable, and a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


Complaint = tuple[Sequence[str | int], str]


def refuse(message: str, at: Sequence[str | int] = ()) -> NoReturn:
    """Raise a problem of the input; ``at`` is the key below the section being checked that it stands at."""
    refuse_all([(at, message)])
    raise AssertionError


def refuse_all(complaints: Iterable[Complaint]) -> None:
    """Raise all of ``complaints`` (key below the section, message), if there are any."""
    found = [(tuple(at), message) for at, message in complaints]
    if found:
        raise PydanticCustomError("hpcflow", "{text}", {"text": found[0][1], "complaints": found})


def _one_line(text: str, but: str = "") -> str:
    for character in text:
        if character in but:
            continue
        if unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs"):
            refuse(
                f"holds the control character U+{ord(character):04X}, which could break a script (remove it)"
            )
    return text


NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


def _name(text: str) -> str:
    if text == "last":
        refuse("`last` stands for the latest run wherever a run is named (choose another name)")
    if not re.fullmatch(NAME, text):
        suggestion = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64] or "my-experiment"
        refuse(
            f"{_shown(text)} is no name: letters, digits and ._- only, at most 64 (for example `{suggestion}`)"
        )
    return text


def _shown(text: str) -> str:
    return "`" + shown(text).replace("`", "'") + "`"


_TIME = re.compile(r"(?:(?P<d>\d{1,4})-)?(?P<parts>\d{1,6}(?::\d{1,2}){0,2})", re.ASCII)


def seconds(time: str) -> int | None:
    """Seconds of a Slurm time limit (None for UNLIMITED); what `sbatch --time` reads, per its manual page.

    Raises ValueError for what Slurm would not read, or would read as something else than it looks like.
    """
    if time == "UNLIMITED":
        return None
    match = _TIME.fullmatch(time)
    if match is None:
        raise ValueError(time)
    parts = [int(part) for part in match["parts"].split(":")]
    if match["d"] is not None:  # D-HH[:MM[:SS]]
        hours, minutes, rest = [*parts, 0, 0][:3]
        if hours > 23 or minutes > 59 or rest > 59:
            raise ValueError(time)
        return ((int(match["d"]) * 24 + hours) * 60 + minutes) * 60 + rest
    if len(parts) == 3:
        hours, minutes, rest = parts
    else:  # MM[:SS]
        hours, (minutes, rest) = 0, [*parts, 0][:2]
    if rest > 59 or (len(parts) == 3 and minutes > 59):
        raise ValueError(time)
    return (hours * 60 + minutes) * 60 + rest


def clock(total: int) -> str:
    """``[D-]HH:MM:SS`` of a number of seconds."""
    days, rest = divmod(total, 86400)
    text = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{text}" if days else text


def _time(value: Any) -> str:
    text = str(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        refuse('is no time (for example "00:30:00", or 30 for minutes)')
    try:
        total = seconds("UNLIMITED" if text.upper() in ("UNLIMITED", "INFINITE") else text)
    except ValueError:
        refuse(
            f'{_shown(text)} is no time that Slurm reads (for example "00:30:00", "1-12:00:00", or 30 for minutes)'
        )
    if total == 0:
        refuse("a time limit of zero ends the job at once (for example 30 for minutes)")
    return "UNLIMITED" if total is None else clock(total)


def _memory(value: Any) -> str:
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,15}[KMGTkmgt]?", text):
        refuse(f"{_shown(text)} is no size of memory (for example 16G; without a unit it is MiB)")
    return text.upper()


def _word(text: str) -> str:
    if not text or re.search(r"\s", text):
        refuse(f"{_shown(text)} must be one word without blanks")
    return text


def _as_written(value: Any) -> Any:
    """A number as its own text: 1.10 stays 1.10."""
    if isinstance(value, Written):
        return value.text
    return str(value) if type(value) in (int, float) else value


def _module(text: str) -> str:
    if text.startswith("-"):
        refuse(f"{_shown(text)} would be read as an option of `module load`")
    return text


# Beginnings of the names of variables that are not the user's to set, and whose they are.
OWNERS = {
    "SLURM_": "Slurm sets it for every job (use the keys of `resources` and `placement`)",
    "SLURMD_": "Slurm sets it for every job",
    "SBATCH_": "sbatch reads it as an option (use `resources`, or resources.extra)",
    "PMI_": "the launcher sets it for every rank",
    "PMI2_": "the launcher sets it for every rank",
    "PMIX_": "the launcher sets it for every rank",
    "OMPI_COMM_": "Open MPI sets it for every rank",
    "HPCFLOW_": "hpcflow sets it in every job",
    "BASH": "the job's script is run by bash, which uses it itself",
}
# Variables that bash does not let anyone assign, or that change what the lines after them mean.
_SHELL = (
    "SHELLOPTS EUID UID PPID IFS ENV POSIXLY_CORRECT PS4 PWD OLDPWD SECONDS RANDOM SRANDOM LINENO EPOCHSECONDS "
    "EPOCHREALTIME FUNCNAME DIRSTACK GROUPS PIPESTATUS OPTIND OPTARG GLOBIGNORE EXECIGNORE _"
)
SHELL = frozenset(_SHELL.split())


def _variable(text: str) -> str:
    if not re.fullmatch(VARIABLE, text):
        refuse(f"{_shown(text)} is no name of an environment variable")
    for start, why in OWNERS.items():
        if text.startswith(start):
            refuse(f"{text} may not be set here: {why}")
    if text in SHELL:
        refuse(f"{text} may not be set here: it means something to bash itself")
    return text


VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"


def unexpanded(variables: Mapping[str, str]) -> Iterator[Complaint]:
    """Search paths that hope for $NAME: values are exported as they are, and PATH would hold a dollar."""
    for name, value in variables.items():
        if name.endswith("PATH") and re.search(r"\$\{?[A-Za-z_]", value):
            yield (
                (name,),
                "is exported as it stands, without expanding $NAME (write it out, or load a module)",
            )


# For editors: what they cannot check themselves they accept, so the patterns only ever allow too much.
_PATTERN_LINE = "^[^\\u0000-\\u001f\\u007f]*$"


def _schema(**extra: Any) -> Any:
    return WithJsonSchema({"type": "string", **extra})


# Free text over several lines. A NEL or a paragraph separator would not survive YAML, a bell annoys terminals.
Text = Annotated[str, AfterValidator(lambda text: _one_line(text, "\n\t"))]
Line = Annotated[str, AfterValidator(_one_line), _schema(pattern=_PATTERN_LINE)]
Name = Annotated[str, AfterValidator(_name), _schema(pattern=f"^{NAME}$")]
Word = Annotated[str, AfterValidator(_one_line), AfterValidator(_word), _schema(pattern=r"^\S+$")]
Module = Annotated[Word, AfterValidator(_module), _schema(pattern=r"^[^-\s]\S*$")]
Variable = Annotated[str, AfterValidator(_variable), _schema(pattern=f"^{VARIABLE}$")]
PathText = Annotated[
    str,
    StringConstraints(min_length=1),
    AfterValidator(_one_line),
    _schema(minLength=1, pattern=_PATTERN_LINE),
]
Time = Annotated[str, BeforeValidator(_time), WithJsonSchema({"type": ["string", "integer"]})]
Memory = Annotated[
    str,
    BeforeValidator(_memory),
    WithJsonSchema({"type": ["string", "integer"], "pattern": "^[0-9]{1,15}[KMGTkmgt]?$"}),
]
Value = Annotated[
    Line,
    BeforeValidator(_as_written),
    WithJsonSchema({"type": ["string", "number"], "pattern": _PATTERN_LINE}),
]
Count = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Ranks = Annotated[
    int, Field(ge=1, le=1_000_000, strict=True)
]  # more is a slip, and would be planned one by one
Nodes = Annotated[int, Field(ge=1, le=65_536, strict=True)]
# Strict: text is no number, `true` is no 1.0, and `yes` is text in YAML 1.2.
Number = Annotated[float, Field(strict=True)]
YesNo = Annotated[bool, Field(strict=True)]
