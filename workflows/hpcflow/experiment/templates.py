"""Experiments to start from: the files of configs/, which are the examples of the documentation too."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hpcflow.errors import InputError, SiteError
from hpcflow.experiment.document import shown
from hpcflow.experiment.jsonschema import experiment
from hpcflow.experiment.site import CONFIGS

SCHEMA = "schema.json"  # what the first line of every template names
_EDITOR = "# yaml-language-server:"


@dataclass(frozen=True)
class Template:
    """A configuration that explains itself. ``about`` is the first sentence of its comments."""

    name: str
    about: str
    text: str


def templates() -> dict[str, Template]:
    """All templates by name."""
    paths = {path.stem: path for folder in reversed(CONFIGS) for path in sorted(folder.glob("*.yaml"))}
    return {name: _template(name, path.read_text(encoding="utf-8")) for name, path in sorted(paths.items())}


def _template(name: str, text: str) -> Template:
    comments = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith(_EDITOR):
            comments.append(line.lstrip("# "))
    sentence, dot, _ = " ".join(comments).partition(". ")
    return Template(name, sentence + dot.strip(), text)


def listing() -> str:
    """The templates, one a line."""
    found = templates().values()
    width = max((len(template.name) for template in found), default=0)
    return "\n".join(f"  {template.name:<{width}}  {template.about}" for template in found)


def schema_text() -> str:
    """schema.json, byte for byte as it stands beside the examples."""
    return json.dumps(experiment(), indent=1, ensure_ascii=False) + "\n"


def start(name: str, folder: Path) -> Path:
    """Write the template ``name``, its schema and a .gitignore into ``folder``; the path of the experiment.

    Raises InputError for an unknown name and where one of the files exists; nothing is written then.
    """
    template = templates().get(name)
    if template is None:
        raise InputError(f"{shown(name)}: there is no such template; there are\n{listing()}")
    files = {
        folder / f"{name}.yaml": template.text,
        folder / SCHEMA: schema_text(),
        folder / ".gitignore": "# Runs of hpcflow.\nruns/\n",
    }
    there = [path for path in files if path.exists() or path.is_symlink()]
    if there:
        names = ", ".join(path.name for path in there)
        raise InputError(f"{folder}: {names} would be overwritten (name another folder)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except FileExistsError as error:
        raise InputError(f"{folder}: {error.filename} would be overwritten") from None
    except NotADirectoryError as error:
        raise InputError(f"{folder} cannot be made: {error.filename} is no directory") from None
    except OSError as error:
        raise SiteError(f"{folder} cannot be written: {error.strerror}") from None
    return folder / f"{name}.yaml"
