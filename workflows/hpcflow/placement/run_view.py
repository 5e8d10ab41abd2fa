"""`hpcflow map --run`: what the ranks of a run were planned to get, and what they got."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping

from hpcflow.errors import EXIT_DONE, EXIT_FAILED, InputError
from hpcflow.placement import drawing
from hpcflow.placement.cpulist import brief
from hpcflow.placement.mapping import actual
from hpcflow.placement.rankmap import RankMap
from hpcflow.placement.record import Binding, read
from hpcflow.placement.screen import paint, width


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
            given = read(task.bindings)
            wrong = {rank: item for rank, item in given.items() if item.problem}
            differ |= bool(wrong)
            documents.append(
                {
                    "job": job.name,
                    "task": task.index,
                    "planned": rankmap.size,
                    "started": len(given),
                    "ranks": [item.to_json() for item in given.values()],
                }
            )
            if not json:
                _draw_task(f"{job.name} task {task.index}" if job.tasks else job.name, rankmap, given)
    if not documents:
        raise InputError(f"{run}: the run has no job with a rank map")
    if json:
        print(jsonlib.dumps({"run": run, "tasks": documents}))
    return EXIT_FAILED if differ else EXIT_DONE


def _draw_task(name: str, rankmap: RankMap, given: Mapping[int, Binding]) -> None:
    print(f"{name}: planned: {drawing.sentence(rankmap)}")
    paint(drawing.picture(rankmap, width()))
    if not given:
        print("\nno rank has started yet\n")
        return
    print(f"\n{name}: actual: {len(given)} of {rankmap.size} ranks reported")
    owners = actual(rankmap, {rank: item.cpus for rank, item in given.items() if rank < rankmap.size})
    lines: list[drawing.Line] = []
    for node, cores in sorted(owners.items()):
        lines += [((rankmap.hosts[node], None),), *drawing.draw_node(rankmap.topology(node), cores, width())]
    paint(lines)
    wrong = [item for item in given.values() if item.problem]
    for item in wrong:
        print(
            f"R{item.rank} on {item.host}: planned CPUs {brief(item.planned or ())}, got {brief(item.cpus)}"
        )
    print("all as planned\n" if not wrong else f"{wrong[0].problem}\n")
