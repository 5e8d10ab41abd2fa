"""hpcflow fed: what there is to do with federated models by hand."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hpcflow.cli import fed_rounds, fed_target
from hpcflow.cli.options import Json
from hpcflow.errors import InputError

app = typer.Typer(
    help="Merge updates, and look at federated runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def fed() -> None:
    """Merge updates, and look at federated runs."""


app.command("status")(fed_rounds.status)
app.command("show")(fed_rounds.show)
app.command("prune")(fed_rounds.prune)
app.command("rounds")(fed_target.rounds)


def parse_options(texts: list[str]) -> dict[str, str]:
    """Read ``k=v`` texts. Raises InputError for one that is none, or a key that is said twice."""
    options: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(f"--option: `{text}` is no option (for example --option trim=0.1)")
        if key in options:
            raise InputError(f"--option: {key} is said twice")
        options[key] = value
    return options


@app.command()
def aggregate(
    updates: Annotated[list[Path], typer.Argument(metavar="UPDATE...", help="Safetensors files to merge.")],
    strategy: Annotated[str, typer.Option(help="How; `hpcflow fed strategies` lists them.", metavar="NAME")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Safetensors file to write.", metavar="FILE")],
    option: Annotated[
        list[str] | None,
        typer.Option(help="An option of the strategy; repeatable.", metavar="K=V", show_default=False),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="Model to add the step to: the result is a model then.", metavar="FILE"),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="The server's state before (FedAdam and the like).", metavar="FILE")
    ] = None,
    state_out: Annotated[
        Path | None, typer.Option(help="Where to write the server's state.", metavar="FILE")
    ] = None,
    round_number: Annotated[int, typer.Option("--round", min=0, help="The round, for the metadata.")] = 0,
    minimum: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Go on without updates that cannot be used, if so many are left; else one such ends it.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; left out: one a CPU.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Merge updates by hand, with the code that merges a round's.

    Each update says its weight in its metadata under num_samples. Started under mpirun or srun, every rank does a
    part of it. The order of the updates makes no difference.
    """
    # Before NumPy is imported: each thread of ours works on a block of its own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from hpcflow.federation.aggregation import Files, TooFew
    from hpcflow.federation.aggregation import aggregate as merge
    from hpcflow.federation.ranks import ranks
    from hpcflow.federation.selection import Candidate
    from hpcflow.federation.strategies import make

    rule = make(strategy, parse_options(option or []))
    distinct = {path.resolve() for path in updates}
    if len(distinct) < len(updates):
        raise InputError("an update is named twice")
    for target in (out, state_out):
        if target is not None and (target.resolve() in distinct or target.is_dir()):
            raise InputError(f"{target} is an update itself or a folder (name another file to write)")
        if target is not None and not target.parent.is_dir():
            raise InputError(f"{target}: there is no folder {target.parent}")
    processes = ranks()
    try:
        done = merge(
            [Candidate(path) for path in updates],
            rule,
            Files(out, base, state, state_out),
            round=round_number,
            minimum=minimum or len(updates),
            ranks=processes,
            threads=threads,
        )
    except TooFew as error:
        if minimum is None and error.refused:
            raise InputError("\n".join(map(str, error.refused))) from None
        raise
    if processes.rank:
        return
    for refusal in done.refused:
        print(f"left out: {refusal}", file=sys.stderr)
    if as_json:
        print(json.dumps(_report(done, out), indent=1))
    else:
        print(out)


def _report(done: Any, out: Path) -> dict[str, Any]:
    return {
        "out": str(out),
        "kind": done.kind,
        "num_samples": done.num_samples,
        "accepted": list(done.accepted),
        "refused": [{"name": r.name, "path": str(r.path), "reason": r.reason} for r in done.refused],
        "seconds": {stage: round(seconds, 4) for stage, seconds in done.seconds.items()},
    }


@app.command()
def strategies(as_json: Json = False) -> None:
    """List the strategies and their options with the defaults."""
    from hpcflow.federation.strategies import TABLE, describe

    table = [describe(kind) for kind in TABLE.values()]
    if as_json:
        print(json.dumps(table, indent=1))
        return
    for row in table:
        first = row["about"].split("\n\n")[0].replace("\n", " ")
        options = " ".join(f"{key}={value}" for key, value in row["options"].items() if row["name"] != "user")
        print(f"{row['name']}  {options}\n    {first}")
