"""What a rank was given, as it writes it to bindings/RANK.json and as others read it back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
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
class Seat:
    """Where CPUs are on their node: logical sockets and cores, whether these cores are ``whole`` (all their hardware
    threads), and the number of cores of every socket of the node.
    """

    sockets: tuple[int, ...]
    cores: tuple[int, ...]
    whole: bool
    node: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """As a binding holds it."""
        return {
            "sockets": list(self.sockets),
            "cores": list(self.cores),
            "whole": self.whole,
            "node": list(self.node),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Seat:
        """The reverse of to_json. Raises KeyError, TypeError or ValueError on anything else."""
        sockets, cores, node = (tuple(map(int, data[key])) for key in ("sockets", "cores", "node"))
        return cls(sockets, cores, bool(data["whole"]), node)


@dataclass(frozen=True)
class Binding:
    """What one rank was given: MPI's rank and size, the launcher's, the host, and the CPUs it may run on (OS ids).

    ``seat`` says where the CPUs are, where the plan could only guess their ids; ``gpus`` is what CUDA or ROCm is told.
    """

    rank: int
    size: int
    host: str
    cpus: tuple[int, ...]
    told: Told
    planned: tuple[int, ...] | None = None
    problem: str = ""
    seat: Seat | None = None
    gpus: Mapping[str, str] = field(default_factory=dict)

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
            "seat": self.seat.to_json() if self.seat else None,
            "gpus": dict(self.gpus),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Binding:
        """The reverse of to_json. Raises InputError on anything else."""
        try:
            told = data["launcher"]
            planned, seat = data["planned"], data["seat"]
            return cls(
                int(data["rank"]),
                int(data["size"]),
                str(data["host"]),
                tuple(map(int, data["cpus"])),
                Told(told["rank"], told["size"], told["local_rank"]),
                None if planned is None else tuple(map(int, planned)),
                str(data["problem"]),
                Seat.from_json(seat) if seat else None,
                {str(name): str(value) for name, value in data["gpus"].items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
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
    """What the ranks of a task wrote, by the number that the file has, which is the launcher's for a rank whose MPI is
    another one. Raises InputError for a file that is none of theirs.
    """
    found: dict[int, Binding] = {}
    for path in sorted(bindings.glob("[0-9]*.json")):
        try:
            found[int(path.stem)] = Binding.from_json(json.loads(read_published(path)))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: {error}") from error
    return found


def refuse(bindings: Path, sentence: str) -> bool:
    """Write down why the ranks end before they begin; whether this one is the first of its attempt to do so."""
    attempt = "-".join(
        os.environ.get(name) or "0" for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "PMIX_NAMESPACE")
    )
    clean = "".join(c if c.isalnum() else "-" for c in attempt)
    name = clean if clean.strip("0-") else f"{clean}-{os.getppid()}"
    try:
        with (bindings / f"refused-{name}").open("x", encoding="utf-8") as file:
            file.write(f"{sentence}\n")
    except FileExistsError:
        return False
    except OSError:
        pass  # better said twice than not at all
    return True


def refusals(bindings: Path) -> list[str]:
    """What `refuse` wrote, one attempt after another."""
    paths = sorted(bindings.glob("refused-*"), key=lambda path: path.stat().st_mtime)
    return [path.read_text(encoding="utf-8").strip() for path in paths]
