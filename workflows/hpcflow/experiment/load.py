"""From files and flags to an Experiment: schema default < site < file < --set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from hpcflow.errors import InputError, Problem
from hpcflow.experiment import overrides, site
from hpcflow.experiment.behind import behind
from hpcflow.experiment.document import Document, Dumper, Key, read, shown
from hpcflow.experiment.problems import SENTENCES, Marks, problems
from hpcflow.experiment.schema import ALTERNATIVES, OF_ITS_OWN, Experiment

_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True)
class Loaded:
    """An experiment, the site it is meant for, and where each of its keys was said."""

    experiment: Experiment
    site: site.Site
    path: Path
    marks: Marks = field(compare=False)
    overridden: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict, compare=False)  # as said by all layers, unchecked

    @property
    def said(self) -> frozenset[str]:
        """Every dotted key that a layer says itself; the others have their default."""
        return frozenset(".".join(map(str, key)) for key in self.marks.keys)

    def problem(self, dotted: str, message: str) -> InputError:
        """The error for a key that is right by itself and wrong here, as 40 ranks on a node of 8 cores."""
        return InputError([self.marks.problem(tuple(dotted.split(".")), message)])


def load(
    path: Path, sets: Sequence[str] = (), site_name: str | None = None, text: str | None = None
) -> Loaded:
    """Read, merge and check. Raises one InputError that holds every problem of every layer.

    ``text`` is what stands in ``path``; it is read from there without it.
    """
    found: list[Problem] = []
    facts, defaults = _reading(lambda: site.load(site_name), found) if site_name else (Document({}),) * 2
    said = _reading(lambda: (read(path, text), Document({})), found)[0]
    flags = overrides.layer(sets)
    unread = {problem.file for problem in found}
    for document in (facts, said, flags):
        found += document.problems
    wrong = {(problem.file, problem.key) for problem in found}
    profile, bad = check(site.Site, facts, Marks(shown(site_name or ""), facts.values, facts.keys))
    name = shown(str(path), 300)
    found += bad
    merged = Document({})
    for layer in (defaults, said, flags):
        merge(merged, layer)
    marks = Marks(name, merged.values, merged.keys)
    found += _sites_of_collaborators(merged, marks)
    experiment, bad = check(Experiment, merged, marks)
    # A layer that could not be read leaves keys out; what is missing then is its own affair.
    missing = SENTENCES["missing"] if unread or flags.problems else None
    found += [
        problem
        for problem in bad
        if problem.file not in unread
        and problem.message != missing
        and (problem.file, problem.key) not in wrong
    ]
    if found or experiment is None or profile is None:
        raise InputError(dict.fromkeys(found))
    return Loaded(
        experiment, profile, path, marks, tuple(text.partition("=")[0] for text in sets), merged.value
    )


def _reading(
    reader: Callable[[], tuple[Document, Document]], found: list[Problem]
) -> tuple[Document, Document]:
    try:
        return reader()
    except InputError as error:
        found += error.problems
        return Document({}), Document({})


def _sites_of_collaborators(experiment: Document, marks: Marks) -> list[Problem]:
    """Lay what each collaborator says over the defaults of the profile that it names; what is wrong with those names."""
    rules = experiment.value.get("federation")
    members = rules.get("collaborators") if isinstance(rules, dict) else None
    found: list[Problem] = []
    for index, member in enumerate(members if isinstance(members, list) else ()):
        if not isinstance(member, dict) or not isinstance(member.get("site"), str):
            continue
        at: Key = ("federation", "collaborators", index)
        try:
            _, defaults = site.load(member["site"])
        except InputError as error:
            # What is wrong in the profile stands there; that there is none, here.
            found += [
                problem if problem.line else marks.problem((*at, "site"), _missing(problem))
                for problem in error.problems
            ]
            continue
        below = Document({key: defaults.value[key] for key in OF_ITS_OWN if key in defaults.value})
        merge(below, Document(member))
        member.update(below.value)
        for theirs, ours in ((defaults.values, experiment.values), (defaults.keys, experiment.keys)):
            for key, place in theirs.items():
                if key[0] in OF_ITS_OWN:
                    ours.setdefault((*at, *key), place)
    return found


def _missing(profile: Problem) -> str:
    return profile.message if profile.file == "--site" else f"{profile.file}: {profile.message}"


def load_resolved(path: Path) -> Experiment:
    """The experiment that a submit resolved and wrote into a run directory."""
    return load(path).experiment


def dump(experiment: Experiment) -> str:
    """YAML of the resolved experiment, every default spelt out; ``load_resolved`` reads it back equal."""
    data = experiment.model_dump(mode="json")
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)


def check(model: type[_M], document: Document, marks: Marks) -> tuple[_M | None, list[Problem]]:
    """The model that ``document`` says, or its problems: those of single keys, and what can be told beside them by the
    checks that look at several.
    """
    try:
        return model.model_validate(document.value), []
    except ValidationError as error:
        return None, [*problems(error, model, marks), *behind(error, model, document.value, marks)]


def merge(below: Document, above: Document) -> None:
    """Lay ``above`` over ``below``: its values win, and of keys that exclude each other its own."""
    for section, keys in ALTERNATIVES.items():
        _drop_alternatives(below, above, section, keys)
    below.value = _merged(below.value, above.value)
    below.values.update(above.values)
    below.keys.update(above.keys)


def _drop_alternatives(below: Document, above: Document, section: str, keys: Sequence[str]) -> None:
    """A layer that says one of ``keys`` unsays the others in the layers below it."""
    mine, theirs = below.value.get(section), above.value.get(section)
    if not isinstance(mine, dict) or not isinstance(theirs, dict):
        return
    if any(theirs.get(key) is not None for key in keys):
        for key in set(keys) & set(mine):
            below.values.pop((section, key), None)
            below.keys.pop((section, key), None)
        below.value = {
            **below.value,
            section: {key: value for key, value in mine.items() if key not in keys},
        }


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        mine = result.get(key)
        both = isinstance(mine, dict) and isinstance(value, dict)
        result[key] = _merged(mine, value) if both else value  # type: ignore[arg-type]
    return result
