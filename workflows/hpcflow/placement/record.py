"""What a rank was given, as it writes it to bindings/RANK.json and as others read it back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcflow.errors import InputError
from hpcflow.storage.publish import publish_text, read_published

# What launchers tell a rank: (rank, size, local rank). The first whose rank is set counts.
TOLD = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ("PMIX_RANK", "SLURM_NTASKS", "SLURM_LOCALID"),
    ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
)


@dataclass(frozen=True)
class Told:
    """What the launcher says in the environment; None where it does not."""

    rank: int | None
    size: int | None
    local_rank: int | None


@dataclass(frozen=True)
class Binding:
    """What one rank was given: MPI's rank and size, the launcher's, the host, and the CPUs it may run on (OS ids)."""

    rank: int
    size: int
    host: str
    cpus: tuple[int, ...]
    told: Told
    planned: tuple[int, ...] | None = None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """As bindings/RANK.json holds it."""
        return {
            "rank": self.rank,
            "size": self.size,
            "host": self.host,
            "cpus": list(self.cpus),
            "launcher": {"rank": self.told.rank, "size": self.told.size, "local_rank": self.told.local_rank},
            "planned": None if self.planned is None else list(self.planned),
            "problem": self.problem,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Binding:
        """The reverse of to_json. Raises InputError on anything else."""
        try:
            told = data["launcher"]
            planned = data["planned"]
            return cls(
                int(data["rank"]),
                int(data["size"]),
                str(data["host"]),
                tuple(map(int, data["cpus"])),
                Told(told["rank"], told["size"], told["local_rank"]),
                None if planned is None else tuple(map(int, planned)),
                str(data["problem"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"this is no binding as hpcflow writes it: {error!r}") from error


def told(environ: Mapping[str, str] = os.environ) -> Told:
    """What the launcher says of this rank."""

    def number(name: str) -> int | None:
        text = environ.get(name, "")
        return int(text) if text.isdigit() else None

    for rank, size, local in TOLD:
        if number(rank) is not None:
            return Told(number(rank), number(size), number(local))
    return Told(None, None, None)


def write(path: Path, binding: Binding) -> None:
    """One writer a file; whole or not at all, for `hpcflow map --run` may look at any time."""
    publish_text(path, json.dumps(binding.to_json()) + "\n")


def read(bindings: Path) -> dict[int, Binding]:
    """What the ranks of a task wrote, by rank. Raises InputError for a file that is none of theirs."""
    found = {}
    for path in sorted(bindings.glob("[0-9]*.json")):
        try:
            binding = Binding.from_json(json.loads(read_published(path)))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: {error}") from error
        found[binding.rank] = binding
    return found
