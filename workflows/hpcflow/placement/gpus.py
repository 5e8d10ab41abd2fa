"""A rank's own GPUs: what CUDA or ROCm is told before TensorFlow asks, so that no rank takes another's memory.

A launcher does not deal GPUs by the rank map, and TensorFlow takes every GPU that it sees.
"""

from __future__ import annotations

from collections.abc import Mapping

from hpcflow.errors import InputError
from hpcflow.placement.rankmap import RankPlace
from hpcflow.placement.topology import Topology

CUDA, ROCM = "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"


def own_gpus(place: RankPlace, node: Topology, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that show a rank the GPUs of its place; none where no GPU is planned for it.

    A list that is there already, as Slurm's of the job, is what the plan's numbers count in: it may hold other numbers,
    or names. Raises InputError where it is too short.
    """
    if not place.gpus:
        return {}
    given = {name: environ[name].split(",") for name in (CUDA, ROCM) if environ.get(name)}
    for name, devices in given.items():
        if max(place.gpus) >= len(devices):
            raise InputError(
                f"rank {place.rank}: planned GPU {', '.join(map(str, place.gpus))} of its node, and {name} has "
                f"{','.join(devices)}: the job was given fewer GPUs than planned, or something dealt them already"
            )
    if given:
        return {name: ",".join(devices[gpu] for gpu in place.gpus) for name, devices in given.items()}
    names = [node.gpus[gpu].name for gpu in place.gpus]
    mine = {ROCM if names[0].startswith("rsmi") else CUDA: ",".join(map(str, place.gpus))}
    # CUDA numbers the fastest first unless told; only a file that names CUDA's own devices counts so.
    return mine if names[0].startswith(("cuda", "rsmi")) else {**mine, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
