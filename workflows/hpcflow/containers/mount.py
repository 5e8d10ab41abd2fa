"""One folder of the node inside an image, as `apptainer exec --mount` is told of it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Mount:
    """The folder that the shell variable ``variable`` names, at ``target`` inside, or at the path that the variable
    ``at`` names (neither: at the same path).

    --mount takes a row of comma-separated values, in which a quoted field may hold anything; --bind, which is
    shorter, would split a path at colons and commas.
    """

    variable: str
    target: str | None = None
    writable: bool = False
    at: str | None = None

    def shell(self) -> str:
        """One word of bash: quotes in the path are doubled where the script runs."""
        source, target = _doubled(self.variable), _doubled(self.at or self.variable)
        if self.target is not None:
            target = _escaped(self.target.replace('"', '""'))
        end = "" if self.writable else ",ro"
        return f'"type=bind,\\"source={source}\\",\\"destination={target}\\"{end}"'

    def __str__(self) -> str:
        place = self.target or self.at or self.variable
        return f"{self.variable}:{place}:{'rw' if self.writable else 'ro'}"


def words(source: str, target: str, *, writable: bool = False) -> tuple[str, str]:
    """The same for a path that is known now: the option and its value, for a process started without a shell."""
    fields = ["type=bind", f"source={source}", f"destination={target}", *([] if writable else ["ro"])]
    return "--mount", ",".join(_field(field) for field in fields)


def _doubled(variable: str) -> str:
    return f'${{{variable}//\\"/\\"\\"}}'


def _field(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if re.search(r'[",\s]', text) else text


def _escaped(text: str) -> str:
    return re.sub(r'([$`"\\])', r"\\\1", text)
