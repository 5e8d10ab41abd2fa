"""The schema of experiments and of site profiles as JSON Schema, for editors.

An editor sees one file, the loader sees all layers: so the schema refuses less than the loader does (no times, no
sums of ranks), and never refuses what the loader takes.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from hpcflow.experiment.schema import Experiment
from hpcflow.experiment.site import Site

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def experiment() -> dict[str, Any]:
    """The schema of an experiment's file."""
    return _with_head(_of(Experiment), "hpcflow experiment")


def site() -> dict[str, Any]:
    """The schema of a site profile, whose `defaults` hold any part of an experiment."""
    schema, part = _of(Site), _of(Experiment)
    schema["$defs"] = {**part.pop("$defs"), **schema.get("$defs", {})}
    part.pop("required", None)
    part["description"] = "Defaults of experiments on this site; they lie below the experiment's own file."
    schema["properties"]["defaults"] = part
    return _with_head(schema, "hpcflow site profile")


def _of(model: type[BaseModel]) -> dict[str, Any]:
    plain: dict[str, Any] = _without_noise(model.model_json_schema())
    return plain


def _with_head(schema: dict[str, Any], title: str) -> dict[str, Any]:
    definitions = schema.pop("$defs")
    return {"$schema": DRAFT, "title": title, **schema, "$defs": definitions}


def _without_noise(node: Any) -> Any:
    """pydantic titles every key with itself ("Ranks Per Node"), and repeats a section's defaults at its key."""
    if isinstance(node, list):
        return [_without_noise(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _without_noise(item) for name, item in value.items()}
        if key in ("properties", "$defs")
        else value
        if key in ("default", "enum", "const", "examples")
        else _without_noise(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and "$ref" in node)
    }
