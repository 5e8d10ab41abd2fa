"""The settings that are tried: ranks per socket x cores per rank x operations at once x KMP_BLOCKTIME. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hpcflow.experiment import Experiment
from hpcflow.placement.topology import Topology

BLOCKTIMES = (1, 0, 30)
OPERATIONS = ((1, 1), (2, 2), (2, 1))
"""How many run at once, and among how many of them the cores of a rank are divided."""
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
    """At most ``most`` candidates: first every placement with one pair of thread settings, then each with further
    pairs, every placement with another one, so that a list that is cut has all values of all dimensions.

    The batch of all ``ranks`` of the experiment together stays, so that all of them train alike: numbers of ranks that
    it cannot be shared by are left out.
    """
    found: list[Mapping[str, Any]] = [{}]
    by_shape = []
    for number, shape in enumerate(_shapes(experiment, node, ranks)):
        first, *others = _threads(*shape)
        turn = 3 * number % max(1, len(others))  # in threes, so that few placements have all pairs too
        by_shape.append([first, *others[turn:], *others[:turn]])
    for row in itertools.zip_longest(*by_shape):
        found += [values for values in row if values is not None]
    return [Candidate(number, values) for number, values in enumerate(found[:most])]


def _shapes(experiment: Experiment, node: Topology, ranks: int) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Placements, each with the cores of a rank: those on all cores of a socket first, then those on half of them."""
    sockets, cores = len(node.sockets), min(len(socket) for socket in node.sockets)
    total = experiment.training.batch_size * ranks
    tried = set()
    for part, power in itertools.product((1, 2), range(cores.bit_length())):
        each = 2**power
        many, share = each * sockets * experiment.resources.nodes, max(1, cores // each // part)
        alone = experiment.training.strategy == "single" and many > 1
        if total % many == 0 and not alone and (each, share) not in tried:
            tried.add((each, share))
            values = {"placement.ranks_per_socket": each, "placement.cores_per_rank": share}
            yield {**values, "training.batch_size": total // many}, share


def _threads(placement: Mapping[str, Any], cores: int) -> Iterator[Mapping[str, Any]]:
    for (inter, among), blocktime in itertools.product(OPERATIONS, BLOCKTIMES):
        intra = cores // among
        if cores < inter:
            continue
        yield {
            **placement,
            "threads.intra_op": intra,
            "threads.inter_op": inter,
            "threads.kmp.blocktime": blocktime,
        }
