"""What an image is tried with: where it lies here, the runtime, the words and variables that start a program in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpcflow.containers import runtime as runtimes
from hpcflow.containers.command import CODE, passed
from hpcflow.containers.mount import words as mount
from hpcflow.containers.runtime import Runtime
from hpcflow.experiment.container import Container
from hpcflow.flows.target import Target
from hpcflow.jobs import shell

PROBE = f"{CODE}/hpcflow/containers/probe.py"


@dataclass(frozen=True)
class Place:
    """What a check runs with: the image here, the runtime, the words that start a program in it."""

    container: Container
    target: Target
    image: Path
    runtime: Runtime

    @property
    def options(self) -> list[str]:
        """Options of exec: those of jobs, but for their folders."""
        made = ["--nv"] if self.container.nv else []
        made += [*self.container.flags, *mount(self.target.code, f"{CODE}/hpcflow")]
        if self.mpi_prefix:
            made += mount(self.mpi_prefix, self.mpi_prefix)
        for bind in self.container.binds:
            source, _, rest = bind.partition(":")
            inside, _, mode = rest.partition(":")
            found = shell.expand(source)
            made += mount(found, inside or found, writable=mode != "ro")
        return made

    @property
    def mpi_prefix(self) -> str:
        """The folder of the node's MPI that is bound; empty for the image's own."""
        if self.container.mpi != "bind":
            return ""
        own = self.target.prefix if self.target.own_mpi else ""
        return shell.expand(self.container.mpi_prefix) if self.container.mpi_prefix else own

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process here whose image shall see what it will see in a job."""
        own = {"PYTHONPATH": CODE, "PYTHONNOUSERSITE": "1", **self.container.env}
        if prefix := self.mpi_prefix:
            own |= {"LD_LIBRARY_PATH": f"{prefix}/lib", "OPAL_PREFIX": prefix, "PMIX_INSTALL_PREFIX": prefix}
        return {**runtimes.clean(), **passed(own), "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}

    def words(self, *arguments: str, cleanenv: bool = False) -> list[str]:
        """`python ARGUMENTS` inside."""
        options = [*(["--cleanenv"] if cleanenv else []), *self.options]
        return [*self.runtime.exec(str(self.image), options), self.container.python, *arguments]
