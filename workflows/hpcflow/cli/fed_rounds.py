"""`hpcflow fed status`, `show` and `prune`: the rounds of a federated run. Registered by cli/fed.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpcflow.cli.argument import RunName
from hpcflow.cli.options import Json
from hpcflow.errors import InputError

if TYPE_CHECKING:
    from hpcflow.federation.plan import Plan
    from hpcflow.jobs.rundir import RunDir


Arm = Annotated[
    str,
    typer.Option(metavar="ARM", help="Of a comparison: one of its arms, as in cyclic.", show_default=False),
]


Trial = Annotated[
    int | None,
    typer.Option(metavar="N", help="Of a sweep: the number of one of its trials.", show_default=False),
]
Repeat = Annotated[int, typer.Option(metavar="N", help="Of that trial: one of its repeats, from 0.")]


def _plan(run: RunDir, arm: str, trial: int | None, repeat: int) -> Plan:
    from hpcflow.federation.arms import arms
    from hpcflow.federation.plan import plan_of
    from hpcflow.jobs import trials

    swept = trials.read(run)
    if swept is None:
        if trial is not None:
            raise InputError(f"--trial {trial}: {run.name} is no sweep")
        plan = plan_of(run)
    else:
        found = {(row.trial, row.repeat): row for row in swept.rows}
        if trial is None or (trial, repeat) not in found:
            what = (
                "--trial is missing" if trial is None else f"--trial {trial} --repeat {repeat}: there is none"
            )
            numbers = f"has trials 1 to {max(row.trial for row in swept.rows)}"
            raise InputError(f"{what}: {run.name} {numbers}, repeats 0 to {swept.repeats - 1}")
        plan = plan_of(found[trial, repeat].task_dir(run))
    if plan.experiment.flow != "comparison" and not arm:
        return plan
    there = arms(plan)
    if arm not in there:
        raise InputError(f"--arm {arm or 'is missing'}: there are {', '.join(there)}")
    return there[arm]


def status(
    run: RunName = "last", arm: Arm = "", trial: Trial = None, repeat: Repeat = 0, json: Json = False
) -> None:
    """Show each round: who took part, who was refused and why, metrics, storage."""
    from hpcflow.cli.table import Column, Table, print_json, print_table
    from hpcflow.engines.notes import unextended
    from hpcflow.federation.history import history
    from hpcflow.jobs.registry import find

    found = find(run)
    plan = _plan(found, arm, trial, repeat)
    told = history(plan)
    if json:
        document = {"run": found.name, "path": str(plan.run.path), "rounds": plan.rounds}
        print_json({**document, "note": unextended(found), "told": [vars(item) for item in told]})
        return
    done = max((item.round for item in told if item.state == "committed"), default=0)
    size = sum(item.bytes for item in told)
    print(f"{found.name}: {done} of {plan.rounds} rounds committed, {_size(size)}\n{plan.run.path}\n")
    if said := unextended(found):
        print(
            f"{said} (the next aggregation tries again; where none is left, `hpcflow resume {found.name}`)\n"
        )
    rows = [_row(item) for item in told]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    order = [key for key in keys if key not in ("REFUSED", "LATE", "STATE")]
    words = ("STATE", "TOOK PART", "REFUSED", "LATE")
    columns = [Column(key, key, right=key not in words) for key in (*order, "STATE", "LATE", "REFUSED")]
    print_table(Table(columns, rows))


def _row(item: Any) -> dict[str, Any]:
    late = [
        *item.late,
        *(f"{name} (of round {number}, used here)" for name, number in item.late_used.items()),
    ]
    metrics = {
        f"{what} {key}".upper(): value
        for what in ("aggregated", "tuned", "holdout")
        for key, value in getattr(item, what).items()
    }
    waited = (
        f"; waits for {', '.join(item.waited_for)}" if item.waited_for and item.state == "under way" else ""
    )
    return {
        "ROUND": item.round,
        "TOOK PART": ", ".join(item.took_part)
        if len(item.took_part) < 8
        else f"{len(item.took_part)} of them",
        **metrics,
        "SIZE": _size(item.bytes),
        "STATE": item.state + waited,
        "LATE": ", ".join(late),
        "REFUSED": "; ".join(f"{name}: {why}" for name, why in item.refused.items()),
    }


def _size(size: int) -> str:
    return f"{size / 2**10:.1f} KiB" if size < 2**20 else f"{size / 2**20:.1f} MiB"


def show(
    run: RunName,
    tensor: Annotated[str, typer.Argument(metavar="TENSOR", help="Name of a tensor.", show_default=False)],
    round: Annotated[
        int | None, typer.Option(help="Round; left out: the last one.", show_default=False)
    ] = None,
    origin: Annotated[
        str, typer.Option(help="`aggregate`, `state` (of the server), or a collaborator: its update.")
    ] = "aggregate",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.npy", help="Write it there.", show_default=False),
    ] = None,
    arm: Arm = "",
    trial: Trial = None,
    repeat: Repeat = 0,
    json: Json = False,
) -> None:
    """Show any tensor of a run by its name, its origin and its round."""
    import numpy as np

    from hpcflow.cli.table import print_json
    from hpcflow.federation import rounds
    from hpcflow.federation.numbers import widen
    from hpcflow.federation.tensorfile import BadFile, TensorFile
    from hpcflow.jobs.registry import find

    plan = _plan(find(run), arm, trial, repeat)
    number = rounds.last_committed(plan) if round is None else round
    if number < 0:
        raise InputError(f"{plan.run.name} has no round yet: not even the initial model is there")
    where = plan.round(number)
    own = {"aggregate": where.model, "state": where.state}
    if origin not in own and origin not in plan.members:
        raise InputError(f"--origin {origin}: there are aggregate, state, {', '.join(plan.members)}")
    path = own.get(origin) or where.update(origin)
    try:
        with TensorFile(path, links=False) as file:
            if tensor not in file.header.tensors:
                raise InputError(f"{path} has no tensor `{tensor}` (it has {', '.join(file.header.tensors)})")
            raw, dtype = file.read(tensor), file.header.tensors[tensor].dtype
    except (OSError, BadFile) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(
            f"round {number}, {origin}: {path}: {why} (pruned? `hpcflow fed status` tells)"
        ) from None
    wide = np.empty(raw.shape)
    widen(raw, dtype, wide)
    values = wide.astype(np.float32) if dtype == "BF16" else raw  # NumPy has no type for it
    if output:
        _save(output, values)
    facts = {
        "tensor": tensor, "round": number, "origin": origin, "type": dtype, "shape": list(values.shape),
        **_figures(wide),
    }  # fmt: skip
    if json:
        print_json({**facts, "values": values.tolist()})
        return
    print("  ".join(f"{key} {value}" for key, value in facts.items()))
    print(np.array2string(values, threshold=60, precision=5))


def _save(path: Path, values: Any) -> None:
    import numpy as np

    try:
        with path.open("wb") as file:  # given a name, NumPy would put .npy behind it
            np.save(file, values)
    except OSError as error:
        raise InputError(f"--output {path}: it cannot be written: {error.strerror}") from None


def _figures(wide: Any) -> dict[str, float]:
    """What there is to say of an array that is not empty."""
    import numpy as np

    if not wide.size:
        return {}
    found = {key: float(getattr(wide, key)()) for key in ("mean", "std", "min", "max")}
    return {**found, "norm": float(np.linalg.norm(wide))}


def prune(
    run: RunName,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and keep it.")] = False,
    models: Annotated[
        int | None, typer.Option(min=1, help="Instead of federation.retention.models.", show_default=False)
    ] = None,
    updates: Annotated[
        int | None, typer.Option(min=0, help="Instead of federation.retention.updates.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Remove the models and updates that `federation.retention` does not keep, of every arm and trial that the run has.

    The run can still be resumed.
    """
    from hpcflow.cli.table import print_json
    from hpcflow.federation import pruning
    from hpcflow.jobs.registry import find

    found = find(run)
    said = {key: value for key, value in (("models", models), ("updates", updates)) if value is not None}
    chosen = pruning.choose(found, said)
    if not dry_run:
        pruning.prune(chosen)
    if json:
        files = [os.path.relpath(path, found.path) for path in chosen.files]
        print_json({"run": found.name, "files": files, "bytes": chosen.bytes, "removed": not dry_run})
        return
    verb = "would be removed" if dry_run else "removed"
    print(f"{found.name}: {len(chosen.files)} files of {_size(chosen.bytes)} {verb}")
