"""hpcflow schema: the JSON Schema that editors use."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer


def command(
    site: Annotated[bool, typer.Option("--site", help="The schema of a site profile instead.")] = False,
) -> None:
    """Print the JSON Schema of an experiment, for editors."""
    from hpcflow.experiment import jsonschema, templates

    text = (
        json.dumps(jsonschema.site(), indent=1, ensure_ascii=False) + "\n"
        if site
        else templates.schema_text()
    )
    sys.stdout.write(text)
