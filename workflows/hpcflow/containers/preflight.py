"""Two ranks started in an image, by the launcher that jobs will use, and what MPI says of them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from hpcflow.containers import processor
from hpcflow.containers.command import WRAPPER, wrapper
from hpcflow.containers.place import PROBE, Place
from hpcflow.doctor.finding import Finding, ok, problem, warning
from hpcflow.doctor.mpi import ABI, TITLES, Mpi, mismatch
from hpcflow.flows.target import Target
from hpcflow.placement.launchers.detect import detect

SECONDS = 180.0
ENDING_S = 5.0  # an mpirun that is told to end first ends its ranks, which have process groups of their own
SRUN = "srun itself starts ranks in a job alone and was not tried"


@dataclass(frozen=True)
class Starter:
    """A command here that starts ranks: which MPI's, and what is to be said of it."""

    mpi: Mpi
    note: str = ""

    def words(self, ranks: int, *, as_root: bool) -> list[str]:
        """The words before those of a rank."""
        if self.mpi.family != "openmpi":
            return [self.mpi.path, "-n", str(ranks)]
        root = ["--allow-run-as-root"] if as_root else []
        return [self.mpi.path, "-np", str(ranks), "-H", f"localhost:{ranks}", "--bind-to", "none", *root]


def starter(target: Target, library: Mpi) -> Starter | str:
    """What starts ranks that use ``library`` here, as the launcher of ``target`` does; or why nothing does.

    In the place of srun stands an mpirun of the library's kind: it shows that the image's MPI works on this machine.
    """
    by_srun = target.launcher == "srun"
    family = "openmpi" if target.launcher == "horovodrun" else target.launcher
    families = [name for name, abi in ABI.items() if abi == library.abi] if by_srun else [family]
    own = f"{target.prefix}/bin" if target.own_mpi and "openmpi" in families else None
    found = next(iter(detect(own, only=families)), None)
    if found is None:
        return f"no {TITLES[families[0]]} is here to start ranks" + (f", and {SRUN}" if by_srun else "")
    mpi = Mpi(found.name, found.version, str(found.path))
    if reason := mismatch(library, mpi):
        return f"{SRUN if by_srun else 'what is here is not what jobs have'}: {reason}"
    return Starter(mpi, SRUN if by_srun else "")


def preflight(place: Place, library: Mpi, ranks: int) -> Iterator[Finding]:
    """Start ``ranks`` ranks in the image, as a job will, and compare what MPI says with it."""
    by = starter(place.target, library)
    if isinstance(by, str):
        yield warning("preflight", f"left out: {by}", "try it in a short job: resources.time: 5")
        return
    container = place.container
    words = by.words(ranks, as_root=place.target.as_root)
    words += ["env", "-u", "OPAL_PREFIX", "-u", "PMIX_INSTALL_PREFIX"] if container.mpi == "hybrid" else []
    words += ["bash", "-c", wrapper(container.env), WRAPPER] if container.cleanenv else []
    words += place.words(PROBE, "size", cleanenv=container.cleanenv)
    with _started(words, place.environment) as process:
        try:
            out, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            what = f"{ranks} ranks did not find each other within {SECONDS:.0f} s"
            yield problem("preflight", what, "build the image with the launcher's own MPI")
            return
    yield (found := verdict(out, process.returncode, ranks, f"under {by.mpi}", by.note))
    if found.level == "ok" and (needs := processor.compiled(out, place.target)):
        yield needs


@contextlib.contextmanager
def _started(words: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone when the block is left, however that is: what it started is too."""
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=env,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGTERM)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(ENDING_S)
                os.killpg(process.pid, signal.SIGKILL)


def verdict(out: str, code: int, ranks: int, by: str = "", note: str = "") -> Finding:
    """What a preflight's output says."""
    # Hydra does not keep what ranks print apart by lines.
    sizes = {int(size) for size in re.findall(r'mpi \{"rank": \d+, "size": (\d+)\}', out)}
    if sizes and sizes != {ranks}:
        what = f"{ranks} ranks were started, and MPI says {' and '.join(map(str, sorted(sizes)))}"
        return problem("preflight", what, "each would train alone: the image's MPI must be the launcher's")
    if guard := re.search(r"compiled to use (.+?) instructions, but these aren't available", out):
        what = f"TensorFlow was compiled for {guard[1]}, which this processor lacks"
        return problem("preflight", what, processor.BUILD)
    if re.search(r"signal 4|Illegal instruction|exit(ed with)? code:? 132", out):
        return problem(
            "preflight", "TensorFlow needs instructions that this processor lacks", processor.BUILD
        )
    if code or not sizes:
        what = f"{ranks} ranks did not start{by and f' {by}'}: {_why(out)}"
        return problem(
            "preflight", what, "see that its MPI, and whatever binds and env change, fit the launcher"
        )
    what = f"{ranks} ranks found each other{by and f' {by}'}, and TensorFlow starts on this processor"
    return ok("preflight", f"{what}; {note}" if note else what)


def _why(out: str) -> str:
    """The line of a failed start that says most."""
    lines = [line.strip() for line in out.splitlines() if line.strip() and not line.startswith("---")]
    telling = [line for line in lines if re.search(r"error|fatal|cannot|not found", line, re.IGNORECASE)]
    return (telling or lines or ["it printed nothing"])[0][:200]
