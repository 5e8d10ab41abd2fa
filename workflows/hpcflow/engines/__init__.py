"""What runs a job graph: Slurm, or this machine."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcflow.errors import InputError, RunError, SiteError

if TYPE_CHECKING:
    from hpcflow.engines.base import Engine
    from hpcflow.engines.slurm_site import SlurmSite
    from hpcflow.experiment.site import Site

NAMES = ("slurm", "local", "auto")
PROBE_S = 5.0


@dataclass(frozen=True)
class Choice:
    """An engine, why it is this one, and the Slurm that answered, if it is Slurm."""

    engine: Engine
    why: str
    slurm: SlurmSite | None = None


def engine(name: str) -> Engine:
    """The engine that a run was given to, for looking at it and for cancelling it. Raises RunError for none."""
    if name not in ("slurm", "local"):
        raise RunError(f"the run was given to an engine `{name}`, which this hpcflow does not know")
    if name == "slurm":
        from hpcflow.engines.slurm import SlurmEngine

        return SlurmEngine(accounting=True)
    from hpcflow.engines.local import LocalEngine

    return LocalEngine()


def choose(wanted: str, site: Site) -> Choice:
    """The engine for a new run. ``auto`` is Slurm if its controller answers, else this machine.

    Raises InputError for a name that is none, SiteError when Slurm is wanted and does not answer.
    """
    if wanted not in NAMES:
        raise InputError(f"--engine {wanted}: there is no such engine (known: {', '.join(NAMES)})")
    slurm, missing = None, "there is no Slurm here"
    if wanted != "local" and shutil.which("sbatch"):
        from hpcflow.engines.slurm_site import probe

        slurm = probe(PROBE_S)
        missing = f"slurmctld does not answer: {slurm.reason}" if slurm else missing
    if slurm is not None and slurm.ctld_up:
        from hpcflow.engines.slurm import SlurmEngine

        accounting = slurm.accounting if site.accounting == "auto" else site.accounting
        version = slurm.version_text
        why = f"Slurm {version} answers" + (f" as {slurm.cluster}" if slurm.cluster else "")
        return Choice(
            SlurmEngine(slurm.max_array_size, accounting, site.max_submit_jobs, site.jobs_submit_jobs),
            why,
            slurm,
        )
    if wanted == "slurm":
        raise SiteError(f"--engine slurm: {missing} (`hpcflow doctor` tells more; --engine local runs here)")
    from hpcflow.engines.local import LocalEngine

    return Choice(LocalEngine(site.max_local_jobs), "asked for" if wanted == "local" else missing)
