"""`hpcflow map`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hpcflow.cli.options import EngineName, Json, Sets, SiteName, alone

Number = int | None


def command(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG]", help="YAML file of the experiment.", show_default=False),
    ] = None,
    topology: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|SxCxT[:N]",
            help="N nodes of a shape: hwloc XML, lscpu --json, slurmd -C, scontrol show node, or sockets x cores x "
            "threads; repeatable for nodes of several shapes.",
            show_default=False,
        ),
    ] = None,
    nodes: Annotated[
        Number,
        typer.Option(
            metavar="N",
            min=1,
            max=65_536,
            help="Number of nodes.",
            show_default=False,
        ),
    ] = None,
    hosts: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Names of the nodes, for a line outside of a scheduler.",
            show_default=False,
        ),
    ] = None,
    ranks_per_node: Annotated[
        Number,
        typer.Option(
            metavar="N",
            min=1,
            show_default=False,
        ),
    ] = None,
    ranks_per_socket: Annotated[
        Number,
        typer.Option(
            metavar="N",
            min=1,
            show_default=False,
        ),
    ] = None,
    ranks_per_numa: Annotated[
        Number,
        typer.Option(
            metavar="N",
            min=1,
            show_default=False,
        ),
    ] = None,
    ranks_per_l3: Annotated[
        Number,
        typer.Option(
            metavar="N",
            min=1,
            show_default=False,
        ),
    ] = None,
    ranks: Annotated[
        Number,
        typer.Option(
            metavar="N",
            min=1,
            help="Ranks in total.",
            show_default=False,
        ),
    ] = None,
    cores_per_rank: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            show_default=False,
        ),
    ] = None,
    smt: Annotated[
        bool | None,
        typer.Option(
            "--smt/--no-smt",
            help="All hardware threads of a core, or one.",
            show_default=False,
        ),
    ] = None,
    order: Annotated[
        Literal["packed", "scattered"] | None,
        typer.Option(
            show_default=False,
        ),
    ] = None,
    reserve: Annotated[
        str | None,
        typer.Option(
            metavar="N[/node|/socket][/first|/last]",
            help="Cores left to the system.",
            show_default=False,
        ),
    ] = None,
    gpus_per_rank: Annotated[
        Number,
        typer.Option(
            metavar="N",
            min=0,
            show_default=False,
        ),
    ] = None,
    oversubscribe: Annotated[
        bool | None,
        typer.Option(
            "--oversubscribe",
            help="Allow more ranks than cores.",
            show_default=False,
        ),
    ] = None,
    launcher: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="openmpi, intelmpi, mpich, srun, horovodrun or auto.",
            show_default=False,
        ),
    ] = None,
    launcher_version: Annotated[
        str | None,
        typer.Option(
            metavar="V",
            help="Version of the launcher where it runs.",
            show_default=False,
        ),
    ] = None,
    program: Annotated[
        str,
        typer.Option(
            metavar="'CMD ARG...'",
            help="What the line starts.",
        ),
    ] = "python train.py",
    all_launchers: Annotated[
        bool,
        typer.Option(
            "--all-launchers",
            help="The line of every launcher.",
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Ask the installed launcher's own mapper whether it does that.",
        ),
    ] = False,
    svg: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the picture as SVG.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Draw what the ranks of a run were really given.",
            show_default=False,
        ),
    ] = None,
    sets: Sets = None,
    site: SiteName = None,
    engine: EngineName = None,
    json: Json = False,
) -> None:
    """Draw which rank runs on which cores, and print the launcher's line that places them there."""
    from hpcflow.placement import command as mapping
    from hpcflow.placement import run_view
    from hpcflow.placement.asking import Options, ask

    if run is not None:
        alone(context, "run", "json")
        raise typer.Exit(run_view.show_run(run, json=json))
    said = {
        "ranks_per_node": ranks_per_node, "ranks_per_socket": ranks_per_socket, "ranks_per_numa": ranks_per_numa,
        "ranks_per_l3": ranks_per_l3, "ranks": ranks, "cores_per_rank": cores_per_rank, "smt": smt, "order": order,
        "reserve": reserve, "gpus_per_rank": gpus_per_rank, "oversubscribe": oversubscribe, "launcher": launcher,
        "launcher_version": launcher_version,
    }  # fmt: skip
    request = {key: value for key, value in said.items() if value is not None}
    options = Options(config, sets or (), site, engine, topology or (), nodes, hosts, program, request)
    raise typer.Exit(
        mapping.show(ask(options), all_launchers=all_launchers, verify=verify, svg=svg, json=json)
    )
