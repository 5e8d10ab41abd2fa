"""hpcflow report: runs to a table, a summary, plots and a page."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hpcflow.cli.argument import RunNames
from hpcflow.cli.options import Json
from hpcflow.cli.table import print_json
from hpcflow.errors import EXIT_FAILED, InputError
from hpcflow.jobs.registry import find
from hpcflow.report import collect, results, summary
from hpcflow.report.results import Results

SIZES = ("nodes", "ranks", "cores")


def command(
    runs: RunNames,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write it: .csv, .json, .md or .parquet.",
            show_default=False,
        ),
    ] = None,
    aggregated: Annotated[
        bool,
        typer.Option(
            "--summary", help="One row a configuration, laws of scaling, and how many nodes to use."
        ),
    ] = False,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw plots into a folder.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one self-contained page.", show_default=False)
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|FILE",
            help="Compare with another run, or with a .csv or .json that -o wrote; ends with 1 if anything got "
            "worse, is missing here, or nothing could be compared.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Of --against: a change for the worse by more than this share counts (else 0.05).",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="What others are compared with (else as the sweep says).",
            show_default=False,
        ),
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(
            metavar="nodes|ranks|cores", help="What is counted (else what differs).", show_default=False
        ),
    ] = None,
    efficiency: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=1,
            help="The parallel efficiency that the recommended size must have (else 0.7).",
            show_default=False,
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            metavar="HH:MM:SS", help="Also recommend the cheapest size within this time.", show_default=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Gather results: one row a task that trains, whatever became of it.

    Prints a readable choice of the columns; -o writes all of them, and --json prints all of them. --summary aggregates
    repeats, fits scaling laws and recommends a size. The columns are explained in docs/results.md. Broken lines of
    metrics are named on stderr and left out.
    """
    if over not in (None, *SIZES):
        raise InputError(f"--over {over}: expected one of {', '.join(SIZES)}")
    asked = {"--baseline": baseline, "--over": over, "--efficiency": efficiency, "--deadline": deadline}
    made_of = {"--summary": aggregated, "--html": html, "--plots": plots}
    _check(asked, {**made_of, "--output": output}, against, threshold, summarised=any(made_of.values()))
    gc.disable()  # rows are a million small objects that live to the end: looking for garbage takes a third of the time
    found = list(dict.fromkeys(map(find, runs)))
    table = collect.table(found)
    if against is not None:
        _against(table, against, 0.05 if threshold is None else threshold, json=json)
        return
    shown = table
    if aggregated or plots or html:
        from hpcflow.report import prose
        from hpcflow.report.study import study

        made = study(table, collect.question(found, baseline or (), over, efficiency or 0.7, deadline))
        shown = made.summary if aggregated else table
        if plots:
            from hpcflow.report import plots as drawing

            for path in drawing.write(made, found, plots):
                print(path, file=sys.stderr)
        if html:
            from hpcflow.report import page

            page.write(made, found, html)
            print(html, file=sys.stderr)
    if output:
        results.write(shown, output, prose.below(made) if aggregated else "")
    if json:
        print_json(made.to_json() if aggregated else table.records())
    elif output:
        print(f"{len(shown)} row{'' if len(shown) == 1 else 's'} in {output}")
    elif aggregated:
        prose.print_study(made)
    elif not (plots or html):
        summary.print_readable(table)


def _check(
    asked: Mapping[str, Any],
    made: Mapping[str, Any],
    against: str | None,
    threshold: float | None,
    *,
    summarised: bool,
) -> None:
    """Raise InputError for an option that nothing would come of."""
    if against is not None:
        for name, value in {**asked, **made}.items():
            if value:
                raise InputError(
                    f"{name} goes not with --against, which prints a comparison and nothing else"
                )
        return
    if threshold is not None:
        raise InputError("--threshold is of --against, which names what to compare with")
    for name, value in asked.items():
        if value is not None and not summarised:
            raise InputError(f"{name} needs one of --summary, --html, --plots, which answer it")


def _against(table: Results, other: str, threshold: float, *, json: bool) -> None:
    """Compare, print, and end with 1 if anything got worse."""
    from hpcflow.report import compare, prose

    path = Path(other)
    there = (
        compare.load(path)
        if path.suffix in (".csv", ".json") and path.is_file()
        else collect.table([find(other)])
    )
    found = compare.compare(table, there, threshold)
    if json:
        print_json(compare.to_json(found, threshold))
    else:
        prose.print_comparison(found)
    if not found.passed:
        raise typer.Exit(EXIT_FAILED)
