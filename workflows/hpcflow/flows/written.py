"""The sections of experiments as text. Trials of a sweep share those that they leave alone: these are written once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from hpcflow.experiment import Experiment
from hpcflow.jobs import trials

# Made once: json.dumps makes one for each call that says anything else than its defaults.
_ENCODE = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class Section:
    """A section (or a value beside the sections) of an experiment: as plain data, as JSON, and as ``trials.digest`` takes
    it.
    """

    plain: Any
    text: str
    decisive: str | None


class Written:
    """The sections that have been written, by the object that the trials share."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[object, Section]] = {}

    def sections(self, experiment: Experiment) -> dict[str, Section]:
        """All but `sweep`, in the schema's order."""
        return {name: self._section(name, value) for name, value in experiment if name != "sweep"}

    def _section(self, name: str, value: object) -> Section:
        key = (name, id(value))
        if key not in self._known:
            plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            # The value is kept as well, or another might get its id.
            self._known[key] = value, Section(plain, _ENCODE(plain), trials.decisive(name, plain))
        return self._known[key][1]


def yaml_text(sections: Mapping[str, Section]) -> str:
    """The file. JSON is YAML, and written 50 times as fast; a section a line is written ten times as fast as one
    that is indented throughout.
    """
    lines = (f' "{name}": {section.text}' for name, section in sections.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"
