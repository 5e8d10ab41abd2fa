"""Site profiles: what a cluster is, and the experiment's defaults there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from hpcflow.errors import InputError, Problem
from hpcflow.experiment.document import Document, Key, read, shown
from hpcflow.experiment.fields import Count, Name, Natural, Number, PathText, Section, Word, YesNo


class NodeShape(Section):
    """Sockets x cores x threads of the nodes, where the scheduler or hwloc cannot be asked."""

    sockets: Count = Field(1, description="Sockets of a node.")
    cores: Count = Field(1, description="Cores of a socket.")
    threads: Count = Field(1, description="Hardware threads of a core.")
    numa_per_socket: Count = Field(1, description="NUMA nodes of a socket.")
    gpus: Natural = Field(0, description="GPUs of a node.")
    hwloc: PathText | None = Field(None, description="hwloc XML file of a node, instead of the numbers.")


class Prices(Section):
    """What an allocation costs an hour, in one currency; what a site does not charge for is 0."""

    core_hour: Annotated[Number, Field(ge=0)] = Field(0.0, description="Price of a logical CPU for an hour.")
    node_hour: Annotated[Number, Field(ge=0)] = Field(0.0, description="Price of a node for an hour.")
    currency: Word = Field("EUR", description="What the prices are in.")


class Site(Section):
    """Facts of a cluster. `defaults` holds any part of an experiment and lies below the experiment's own file."""

    name: Name = Field("here", description="Name of the cluster.")
    engine: Literal["auto", "slurm", "local"] = Field("auto", description="What runs jobs there.")
    accounting: Literal["auto"] | YesNo = Field("auto", description="Whether sacct answers.")
    jobs_submit_jobs: YesNo = Field(True, description="Whether a running job may call sbatch.")
    max_submit_jobs: Literal["auto"] | Count | None = Field(
        "auto",
        description="Jobs that a user may have in the queue, each task of an array counted; auto asks accounting.",
    )
    launchers: dict[Word, Word] = Field(
        {},
        description="Launchers of the compute nodes and their versions, as in openmpi: 4.1.5.",
    )
    mpi_plugin: Word | None = Field(None, description="srun --mpi= on this site, as in pmix.")
    node: NodeShape | None = Field(None, description="Shape of the nodes.")
    cpu_flags: tuple[Word, ...] = Field(
        (),
        description="Features of the nodes' processors (`flags` in /proc/cpuinfo); images are compared with them.",
    )
    prices: Prices | None = Field(None, description="What jobs cost there; reports tell what a run came to.")
    max_local_jobs: Count | None = Field(None, description="Jobs that the local engine runs at once at most.")


# In the wheel configs/ is package data; in a checkout it stands at its top.
CONFIGS = (Path(__file__).parents[1] / "configs", Path(__file__).parents[3] / "configs")


def find(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The profile called ``name``: a path as it is, else NAME.yaml in the folders of profiles.

    Raises InputError naming every place that was looked at.
    """
    if "/" in name or name.endswith((".yaml", ".yml")):
        return Path(name)
    home = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "hpcflow" / "sites"
    places = [Path("configs/sites"), home, *(folder / "sites" for folder in CONFIGS)]
    for place in places:
        if (place / f"{name}.yaml").is_file():
            return place / f"{name}.yaml"
    known = sorted({path.stem for place in places if place.is_dir() for path in place.glob("*.yaml")})
    looked = ", ".join(str(place / f"{name}.yaml") for place in dict.fromkeys(places[:2]))
    has = f"; known: {', '.join(known)}" if known else ""
    message = f"there is no such profile (looked for {looked}{has})"
    raise InputError([Problem("--site", 0, 0, shown(name), message)])


def split(document: Document) -> tuple[Document, Document]:
    """The site's own facts, and its `defaults` with their marks as a layer of an experiment."""
    facts = {key: value for key, value in document.value.items() if key != "defaults"}
    defaults: Any = document.value.get("defaults", {})
    if not isinstance(defaults, dict):
        at = document.values[("defaults",)]
        message = "expected a part of an experiment (keys and values)"
        raise InputError([Problem(at.file, at.line, at.column, "defaults", message)])
    below = Document(defaults)
    for source, target in (
        (document.values, below.values),
        (document.keys, below.keys),
    ):
        target.update(
            {_tail(key): mark for key, mark in source.items() if key[:1] == ("defaults",) and len(key) > 1}
        )
    return Document(facts, document.values, document.keys, document.problems), below


def _tail(key: Key) -> Key:
    return key[1:]


def load(name: str) -> tuple[Document, Document]:
    """Read the profile ``name`` and split it. Raises InputError."""
    return split(read(find(name)))
