"""What a run will write at most, known from its plan, against the room there is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcflow.errors import RunError
from hpcflow.experiment import Experiment, Loaded
from hpcflow.experiment.schema import UNETS, Phantom
from hpcflow.jobs import shell
from hpcflow.jobs.rundir import RunDir
from hpcflow.storage import mounts
from hpcflow.storage.publish import MANIFEST, Manifest
from hpcflow.storage.space import Room, human, room
from hpcflow.training.models.size import FLOAT, KEPT, checkpoint_bytes, weights

FILES = 40  # of a task: script, records, metrics, a file a rank, checkpoints


@dataclass(frozen=True)
class Part:
    """Something that is written: where (the key that names the folder), what, how much, in how many files."""

    key: str
    what: str
    bytes: int
    files: int = 0


@dataclass(frozen=True)
class Need:
    """What is written to one file system, and the room there."""

    parts: tuple[Part, ...]
    room: Room

    @property
    def bytes(self) -> int:
        """Of all parts."""
        return sum(part.bytes for part in self.parts)

    @property
    def files(self) -> int:
        """Of all parts."""
        return sum(part.files for part in self.parts)

    def __str__(self) -> str:
        what = "; ".join(f"{part.what}: {human(part.bytes)}" for part in self.parts if part.bytes)
        found = self.room
        free = "" if found.bytes is None else f", and {found.whose} in {found.folder} is {human(found.bytes)}"
        return f"the run needs {human(self.bytes)}" + (f" ({what})" if what else "") + free


def parts(learning: Sequence[Experiment]) -> list[Part]:
    """What the tasks write that learn, each by its experiment. What else they write is little beside it."""
    trained = [one for one in learning if one.federation is None]
    found = []
    if trained:
        sizes = [_checkpoint(one) for one in trained]
        what = f"{len(trained)} x {KEPT} checkpoints of " + ("at most " if len(set(sizes)) > 1 else "")
        found.append(Part("storage.runs", what + human(max(sizes)), KEPT * sum(sizes), len(trained) * FILES))
    found += _joined(part for one in learning if one.federation for part in _rounds(one))
    sets = dict.fromkeys(found for one in learning for found in _data_sets(one))
    if packed := sum(map(_to_pack, sets)):
        found.append(Part("storage.cache", "packed data", packed))
    return found


def _checkpoint(experiment: Experiment) -> int:
    training = experiment.training
    if training.model.name not in UNETS:
        return 0
    return checkpoint_bytes(training.model, len(training.data.modalities))


def _rounds(experiment: Experiment) -> Iterator[Part]:
    """Models, server's states, updates and control variates of all rounds: nothing of them goes by itself."""
    from hpcflow.federation.arms import arms
    from hpcflow.federation.contribution import keeps_control
    from hpcflow.federation.plan import Plan
    from hpcflow.federation.strategies import make

    whole = Plan(RunDir(Path()), experiment)
    training, rules = experiment.training, whole.rules
    if experiment.flow == "evaluation":
        return
    flat = training.model.name in UNETS
    size = FLOAT * weights(training.model, len(training.data.modalities))[1] if flat else 0
    server = make(rules.strategy, rules.options).server
    for plan in arms(whole).values() if experiment.flow == "comparison" else [whole]:
        control = keeps_control(plan)
        states = 0 if plan.single else (len(server.state) if server else int(control))
        asked = len(plan.participants(1))
        updates = asked * (3 if control else 1)  # a change of the control variate beside it, and the variate
        files = (asked + 1) * (FILES if rules.execution == "chained" else 5)
        what = f"{plan.rounds} rounds of {asked} update(s) of {human(size)}"
        yield Part(
            "storage.runs", what, size + plan.rounds * (1 + states + updates) * size, plan.rounds * files
        )


def _joined(found: Iterable[Part]) -> list[Part]:
    """Parts that are called the same as one."""
    by_what: dict[str, list[Part]] = {}
    for part in found:
        by_what.setdefault(part.what, []).append(part)
    return [
        Part(
            same[0].key,
            (f"{len(same)} x " if len(same) > 1 else "") + what,
            sum(part.bytes for part in same),
            sum(part.files for part in same),
        )
        for what, same in by_what.items()
    ]


@dataclass(frozen=True)
class _DataSet:
    """A data set that somebody learns from: of thousands of trials most share one."""

    folder: str | None
    phantom: Phantom | None
    channels: int
    crop: tuple[int, int, int]
    cache: str


def _data_sets(experiment: Experiment) -> Iterator[_DataSet]:
    training, storage, rules = experiment.training, experiment.storage, experiment.federation
    if training.model.name not in UNETS or experiment.flow == "evaluation":
        return
    own = [(member.data, member.phantom) for member in rules.members] if rules else [(None, None)]
    for folder, phantom in dict.fromkeys(own):
        yield _DataSet(
            None if phantom else folder or storage.data,
            phantom or training.data.phantom,
            len(training.data.modalities),
            training.data.crop,
            storage.cache or "",
        )


def _to_pack(found: _DataSet) -> int:
    """Bytes of a data set that is going to be packed; 0 of one that is packed, or not seen here."""
    phantoms = found.phantom.subjects if found.phantom else 0
    subjects = _subjects(found.folder) if found.folder else phantoms
    return 0 if _is_packed(found, subjects) else packed_bytes(found.crop, found.channels, subjects)


def packed_bytes(crop: tuple[int, int, int], channels: int, subjects: int) -> int:
    """Images as float16 and labels as uint8 (training/data/cache.py)."""
    return subjects * math.prod(crop) * (2 * channels + 1)


def _subjects(folder: str) -> int:
    """Of a data set; 0 where it cannot be seen."""
    try:
        return len(json.loads((Path(_expanded(folder)) / "dataset.json").read_bytes())["training"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _is_packed(found: _DataSet, subjects: int) -> bool:
    """Whether a packed set of that many subjects, channels and voxels is there: a guess that reads no image."""
    for path in Path(_expanded(found.cache)).glob(f"packed-*/{MANIFEST}"):
        try:
            about = Manifest.from_json(path.read_text(encoding="utf-8")).about
            shape = (about["crop"], len(about["modalities"]), len(about["subjects"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if shape == (list(found.crop), found.channels, subjects):
            return True
    return False


def _expanded(path: str) -> str:
    try:
        return shell.expand(path)
    except RunError:
        return path


def needs(loaded: Loaded, learning: Sequence[Experiment]) -> list[Need]:
    """What the run writes to each file system. Raises InputError, with the numbers, where it does not fit there."""
    storage = loaded.experiment.storage
    folders = {"storage.runs": storage.runs, "storage.cache": storage.cache or storage.runs}
    table = mounts.here(loaded.site.said)
    together: dict[int, list[Part]] = {}
    rooms: dict[int, Room] = {}
    for part in parts(learning):
        try:
            found = room(Path(shell.expand(folders[part.key])), table)
            device = Path(found.folder).stat().st_dev
        except (OSError, RunError):
            continue  # what is wrong with the folder is said by whoever writes there
        together.setdefault(device, []).append(part)
        rooms.setdefault(device, found)
    result = [Need(tuple(here), rooms[device]) for device, here in together.items()]
    for need in result:
        _ensure(loaded, need)
    return result


def _ensure(loaded: Loaded, need: Need) -> None:
    found, key = need.room, need.parts[0].key
    if found.bytes is not None and found.bytes < need.bytes:
        raise loaded.problem(key, f"{need} (make room, or name another folder)")
    if found.files is not None and found.files < need.files:
        raise loaded.problem(
            key,
            f"the run makes about {need.files} files, and {found.whose_files} in {found.folder} is {found.files} of "
            "them (make room, or name another folder)",
        )
