"""`hpcflow map --run`: what the ranks of a run were planned to get, and what they got."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping

from hpcflow.errors import EXIT_DONE, EXIT_FAILED, InputError
from hpcflow.placement import drawing
from hpcflow.placement.cpulist import brief, ranges
from hpcflow.placement.rankmap import RankMap
from hpcflow.placement.record import Binding, Seat, read, refusals
from hpcflow.placement.screen import paint, width
from hpcflow.placement.topology import Topology

Owners = dict[int, list[int]]


def show_run(run: str, *, json: bool) -> int:
    """Planned against actual for every task of a run that has started; the exit code, 1 where a rank differs."""
    from hpcflow.jobs import registry

    documents = []
    differ = False
    for job in registry.find(run):
        if not job.rankmap.exists():
            continue
        try:
            rankmap = RankMap.from_json(jsonlib.loads(job.rankmap.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise InputError(f"{job.rankmap}: {error}") from error
        for task in job:
            given = {rank: item for rank, item in read(task.bindings).items() if rank < rankmap.size}
            # Ranks that began after all have left these behind.
            refused = refusals(task.bindings) if not given else []
            differ |= bool(refused) or any(item.problem for item in given.values())
            documents.append(
                {
                    "job": job.name,
                    "task": task.index,
                    "planned": rankmap.size,
                    "started": len(given),
                    "refused": refused,
                    "ranks": [item.to_json() for item in given.values()],
                }
            )
            if not json:
                name = f"{job.name} task {task.index}" if job.tasks else job.name
                _draw_task(name, rankmap, given, refused)
    if not documents:
        raise InputError(f"{run}: the run has no job with a rank map")
    if json:
        print(jsonlib.dumps({"run": run, "tasks": documents}))
    return EXIT_FAILED if differ else EXIT_DONE


def _draw_task(name: str, rankmap: RankMap, given: Mapping[int, Binding], refused: list[str]) -> None:
    print(f"{name}: planned: {drawing.sentence(rankmap)}")
    paint(drawing.picture(rankmap, width()))
    if not given:
        print(f"\n{f'the ranks ended at once: {refused[-1]}' if refused else 'no rank has started yet'}\n")
        return
    count = f"{len(given)} of {rankmap.size} ranks have reported"
    print(f"\n{name}: actual: {count}")
    lines: list[drawing.Line] = []
    for node, (shape, owners) in sorted(actual(rankmap, given).items()):
        lines += [((rankmap.hosts[node], None),), *drawing.draw_node(shape, owners, width())]
    paint(lines)
    wrong = [(rank, item) for rank, item in given.items() if item.problem]
    for rank, item in wrong:
        print(_row(rank, item))
    if wrong:
        print(f"{wrong[0][1].problem}\n")
    else:
        print("all as planned\n" if len(given) == rankmap.size else f"{count}, those as planned\n")


def _row(rank: int, item: Binding) -> str:
    if item.seat is not None:
        where = f"cores {ranges(item.seat.cores)}, CPUs {brief(item.cpus)}"
        return f"R{rank} on {item.host}: got {where}"
    planned = "" if item.planned is None else f"planned CPUs {brief(item.planned)}, "
    return f"R{rank} on {item.host}: {planned}got {brief(item.cpus)}"


def actual(rankmap: RankMap, given: Mapping[int, Binding]) -> dict[int, tuple[Topology, Owners]]:
    """node -> its shape, and core -> ranks that may really run there.

    By the CPU ids where the plan knows them; else by the cores that the node's kernel told, on the node as it told it.
    """
    found: dict[int, tuple[Topology, Owners]] = {}
    for rank, item in sorted(given.items()):
        node = rankmap.place(rank).node
        shape = rankmap.topology(node)
        if shape.assumed and item.seat is None:
            continue
        shape, owners = found.setdefault(node, (_told(item.seat) if item.seat else shape, {}))
        mine = set(item.cpus)
        cores = item.seat.cores if item.seat else [i for i, c in enumerate(shape.cores) if mine & set(c.pus)]
        for core in cores:
            owners.setdefault(core, []).append(rank)
    return found


def _told(seat: Seat) -> Topology:
    """A node with as many sockets and cores as its kernel tells; no picture shows the ids."""
    widest = Topology.from_counts(len(seat.node), max(seat.node))
    kept = (core for socket, size in zip(widest.sockets, seat.node, strict=True) for core in socket[:size])
    return widest.restricted(frozenset(kept))
