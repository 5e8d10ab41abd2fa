"""hpcflow container: build images, and check one before jobs use it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hpcflow.cli.options import Config, EngineName, Json, Sets, SiteName
from hpcflow.errors import EXIT_INPUT, EXIT_SITE, InputError

app = typer.Typer(
    help="Build images, and check one before jobs use it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def build(
    definition: Annotated[
        str, typer.Argument(metavar="[NAME|FILE]", help="One of hpcflow's definitions, or a definition file.")
    ] = "unet",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="IMAGE", help="Default: NAME.sif.", show_default=False),
    ] = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="A directory of files instead of a SIF.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Build even what is unchanged, or was changed by hand.")
    ] = False,
    argument: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="NAME=VALUE", help="A %arguments value of the definition; repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """Build an image, unless it is there and would come out the same. Its path is printed."""
    from dataclasses import asdict

    from hpcflow.cli.table import print_json
    from hpcflow.containers import build as building
    from hpcflow.containers.definition import find
    from hpcflow.containers.runtime import find as runtime

    given = dict(_pair(text) for text in argument or ())
    wanted = find(definition)
    image = (output or Path(wanted.name + ("" if sandbox else ".sif"))).absolute()
    note, new = building.build(wanted, image, runtime(), sandbox=sandbox, force=force, arguments=given)
    print(f"built in {note.seconds:.0f} s" if new else "unchanged, not built again", file=sys.stderr)
    if json:
        print_json({"image": str(image), "new": new, **asdict(note)})
    else:
        print(image)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InputError(f"--arg {text}: expected NAME=VALUE")
    return name, value


@app.command()
def check(
    config: Config, sets: Sets = None, site: SiteName = None, engine: EngineName = None, json: Json = False
) -> None:
    """Say whether jobs of CONFIG will start right in its image. Ends with 3 if not."""
    from datetime import datetime

    from hpcflow.cli.table import print_json
    from hpcflow.containers.check import examine
    from hpcflow.doctor.finding import text, worst
    from hpcflow.submission import prepare

    submission = prepare(config, sets or [], site, engine, datetime.now().astimezone())
    findings = examine(submission.loaded.experiment, submission.target)
    if json:
        print_json({"level": worst(findings), "findings": [finding.to_json() for finding in findings]})
    else:
        print(text(findings), end="")
    if worst(findings) == "problem":
        raise typer.Exit(EXIT_SITE)


@app.command("from-dockerfile")
def from_dockerfile(
    dockerfile: Annotated[Path, typer.Argument(metavar="DOCKERFILE", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.def", help="Write it there.", show_default=False),
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept-losses", help="Go on where the image would be another one.")
    ] = False,
) -> None:
    """Turn a Dockerfile into a definition file, and name what is lost on the way. Ends with 2 if it is much."""
    from hpcflow.containers.dockerfile import convert

    made = convert(dockerfile, output.absolute().parent if output else None)
    for problem, _ in made.losses:
        print(problem, file=sys.stderr)
    if made.grave and not accept:
        print(
            "nothing was written: the image would be another one (--accept-losses goes on)", file=sys.stderr
        )
        raise typer.Exit(EXIT_INPUT)
    if output is None:
        print(made.text, end="")
        return
    try:
        output.write_text(made.text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror})") from None
