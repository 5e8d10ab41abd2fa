"""The settings that are tried: ranks per socket x cores per rank x operations at once x KMP_BLOCKTIME. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hpcflow.experiment import Experiment
from hpcflow.placement.topology import Topology

BLOCKTIMES = (1, 0, 30)
INTER_OPS = (1, 2)
MOST = 24


@dataclass(frozen=True)
class Candidate:
    """Values of keys, laid over the experiment; number 0 is the experiment as it is."""

    number: int
    values: Mapping[str, Any]

    @property
    def title(self) -> str:
        """As tables name it."""
        return ", ".join(f"{key.split('.')[-1]} {value}" for key, value in self.values.items()) or "as it is"


def candidates(experiment: Experiment, node: Topology, ranks: int, most: int = MOST) -> list[Candidate]:
    """At most ``most`` candidates, those of the coarsest differences first.

    The batch of all ``ranks`` of the experiment together stays, so that all of them train alike: numbers of ranks that
    it cannot be shared by are left out.
    """
    found: list[Mapping[str, Any]] = [{}]
    # Round robin over the numbers of ranks, so that a short list has all of them.
    by_ranks = [list(_threads(*shape)) for shape in _shapes(experiment, node, ranks)]
    for row in itertools.zip_longest(*by_ranks):
        found += [values for values in row if values is not None]
    return [Candidate(number, values) for number, values in enumerate(found[:most])]


def _shapes(experiment: Experiment, node: Topology, ranks: int) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Placements, each with the cores of a rank: all cores of a socket, and half of them."""
    sockets, cores = len(node.sockets), min(len(socket) for socket in node.sockets)
    total = experiment.training.batch_size * ranks
    each = 1
    while each <= cores:
        many = each * sockets * experiment.resources.nodes
        alone = experiment.training.strategy == "single" and many > 1
        if total % many == 0 and not alone:
            for share in dict.fromkeys((cores // each, max(1, cores // each // 2))):
                values = {"placement.ranks_per_socket": each, "placement.cores_per_rank": share}
                yield {**values, "training.batch_size": total // many}, share
        each *= 2


def _threads(placement: Mapping[str, Any], cores: int) -> Iterator[Mapping[str, Any]]:
    for blocktime, inter in itertools.product(BLOCKTIMES, INTER_OPS):
        intra = max(1, cores // inter)
        if inter > 1 and cores < inter:
            continue
        yield {
            **placement,
            "threads.intra_op": intra,
            "threads.inter_op": inter,
            "threads.kmp.blocktime": blocktime,
        }
