"""Checks of file systems and of the container runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hpcflow.doctor.finding import Finding, ok, problem, warning
from hpcflow.doctor.scheduler import answering, only_this_machine
from hpcflow.doctor.survey import CONTAINERS, Survey
from hpcflow.engines.ask import Answer
from hpcflow.storage.mounts import Mount, under

LITTLE = 2 * 2**30  # bytes: a few checkpoints of a 3-D U-Net
ELSEWHERE = "name a folder on shared storage in storage.runs"


def folders(survey: Survey) -> Iterator[Finding]:
    """storage.runs, storage.data and the home: which file system, how much room, seen by every node or not."""
    for key in ("storage.runs", "storage.data", "$HOME"):
        if key in survey.folders:
            yield _folder(survey, key)
        elif key == "storage.runs" or (key == "storage.data" and survey.loaded.experiment.storage.data):
            yield warning(key, "its path holds a variable that is not set here", "set it before you submit")


def _folder(survey: Survey, key: str) -> Finding:
    answer = survey.probe(f"folder {key}")
    path = survey.folders[key]
    if "real" not in answer:
        return problem(key, f"{path}: {answer.get('error')}", "its file system hangs; ask the site")
    mount = under(str(answer["real"]), survey.mounts)
    kind = mount.kind if mount else "unknown file system"
    free = int(answer["free"])
    what = f"{path}: {kind}, {_size(free)} free"
    slurm = answering(survey)
    several = slurm is not None and not only_this_machine(slurm)
    if key == "$HOME":
        return ok(key, what + _visible(mount))
    if key == "storage.runs" and not answer["writable"]:
        return problem(key, f"{what}; you may not write there", ELSEWHERE)
    if several and mount is not None and mount.shared is False:
        return problem(
            key, f"{what}; it is local to this machine, the compute nodes do not see it", ELSEWHERE
        )
    if several and (mount is None or mount.shared is None):
        what += "; whether the compute nodes see it is not known"
        return warning(key, what, "check with `srun ls` that they do")
    if mount and mount.kind == "lustre" and not {"flock", "localflock"} & set(mount.options):
        what += "; without flock (hpcflow does not lock)"
    if key == "storage.runs" and free < LITTLE:
        return warning(key, f"{what}; that is little", "make room, or " + ELSEWHERE)
    return ok(key, what + _visible(mount))


def _visible(mount: Mount | None) -> str:
    seconds = mount.attribute_cache if mount else None
    return "" if seconds is None else f"; other nodes see new files within {seconds} s"


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def container(survey: Survey) -> Iterator[Finding]:
    """The container runtime, and whether an ordinary user can start it."""
    found = [(name, survey.answers[name]) for name in CONTAINERS if survey.answers[name].ok]
    if not found:
        yield ok("container", "neither apptainer nor singularity is here (images cannot be run)")
        return
    name, answer = found[0]
    version = answer.out.strip().removeprefix(name).strip()
    if survey.answers["userns"].ok or _setuid(answer):
        yield ok("container", f"{name} {version}")
    else:
        what = f"{name} {version}; user namespaces are closed: {survey.answers['userns'].complaint}"
        yield warning("container", what, "images run only if it was installed setuid; ask the site")


def _setuid(answer: Answer) -> bool:
    places = ("/usr/libexec", "/usr/local/libexec", "/usr/lib/x86_64-linux-gnu")
    names = ("apptainer", "singularity")
    return any(Path(place, name, "bin", "starter-suid").exists() for place in places for name in names)
