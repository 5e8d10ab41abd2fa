"""One rank of a training job, from the start of TensorFlow to the last epoch."""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcflow.errors import HpcflowError, InputError, RunError
from hpcflow.experiment.schema import Data, Training
from hpcflow.storage import stripes
from hpcflow.storage.broadcast import broadcast
from hpcflow.storage.publish import read_manifest
from hpcflow.storage.staging import Readers, Stage, Staged, readers_here, stage
from hpcflow.storage.stripes import Policy
from hpcflow.training import checkpoint
from hpcflow.training.checkpoint import Progress
from hpcflow.training.data.batches import Augmentation, Samples
from hpcflow.training.data.cache import Packed, cache_key, open_packed, packed_path
from hpcflow.training.data.decathlon import TARGETS, open_decathlon
from hpcflow.training.data.source import source_folder
from hpcflow.training.data.split import split_subjects
from hpcflow.training.metrics import MetricsLog, Terminal
from hpcflow.training.models.size import checkpoint_bytes
from hpcflow.training.schedule import LearningRate
from hpcflow.training.strategies import Strategy, load_strategy


@dataclass(frozen=True)
class Place:
    """Where a training job reads and writes. ``data`` is empty for phantoms."""

    data: str
    cache: Path
    metrics: Path
    checkpoints: Path
    stage: Stage = "none"
    stripes: Policy = "auto"


def configure_tensorflow(deterministic: bool) -> None:
    """Set TensorFlow's thread pools from TF_NUM_INTRAOP_THREADS and TF_NUM_INTEROP_THREADS, where they are
    set.

    TensorFlow 2.18 reads the variables itself only in some builds, so they are passed on explicitly. Raises
    InputError for a value that is no number.
    """
    import tensorflow as tf

    for name, setter in (
        ("TF_NUM_INTRAOP_THREADS", tf.config.threading.set_intra_op_parallelism_threads),
        ("TF_NUM_INTEROP_THREADS", tf.config.threading.set_inter_op_parallelism_threads),
    ):
        value = os.environ.get(name, "")
        if value and not value.isdecimal():
            raise InputError(f"{name} is {value!r}, which is no number of threads")
        if value:
            setter(int(value))
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def expect_size(strategy: Strategy, planned: int | None) -> None:
    """Raise RunError where MPI did not put together the ranks that were planned."""
    if planned is None or planned == strategy.size:
        return
    alone = strategy.size == 1
    why = "the launcher and Horovod use different MPIs" if alone else "the launch line and the plan disagree"
    found = f"rank {strategy.rank} of {strategy.size}"
    raise RunError(f"this process is {found}, and {planned} ranks were planned: {why} (see `hpcflow doctor`)")


def agreed(strategy: Strategy, make: Callable[[], str]) -> str:
    """What rank 0 makes, on every rank; what it raises of the user's making is raised on every rank, as
    RunError.
    """
    text = ""
    failed: HpcflowError | None = None
    if strategy.rank == 0:
        try:
            text = "=" + make()
        except HpcflowError as error:
            failed, text = error, f"!{error}"
    text = strategy.agree(text)
    if failed is not None:
        raise failed
    if text.startswith("!"):
        raise RunError(text[1:])
    return text[1:]


def open_data(data: Data, place: Place, strategy: Strategy) -> Packed:
    """The packed cache on every rank. Rank 0 alone looks at the data set: thousands of ranks asking for the
    size of a thousand files are what a metadata server fears."""

    def key() -> str:
        dataset = open_decathlon(source_folder(data, place.data, place.cache))
        found = cache_key(dataset, dataset.channels(data.modalities), data.crop)
        open_packed(packed_path(place.cache, found))
        return found

    return open_packed(packed_path(place.cache, agreed(strategy, key)), patience_s=None)


class TrainingJob:
    """A rank's model, data and files. Making it is the start-up; :meth:`run` is the training."""

    def __init__(self, training: Training, place: Place, strategy: Strategy) -> None:
        import tf_keras as keras

        from hpcflow.training.loop import Loop, Settings
        from hpcflow.training.losses import LOSSES
        from hpcflow.training.models.unet import build_model
        from hpcflow.training.steps import Steps

        self.training, self.place, self.strategy = training, place, strategy
        data = training.data
        packed, self.staged = self._near(open_data(data, place, strategy))
        target = TARGETS[data.target] if isinstance(data.target, str) else data.target
        flat = training.model.name == "unet2d"
        samples = Samples(packed, target, 2 if flat else 3)
        split = split_subjects(packed.subjects, data.validation_fraction, training.seed)
        model, noise = build_model(training.model, samples.shape, training.seed)
        optimizer = keras.optimizers.Adam(training.learning_rate, jit_compile=False)
        self.steps = Steps(model, optimizer, noise, LOSSES[training.loss], strategy)
        augmentation = Augmentation(data.augment.flip, data.augment.rotate90, data.augment.noise)
        only = flat and data.slices == "tumor"
        settings = Settings(training.batch_size, training.seed, only, augmentation, training.limit_batches)
        self.loop = Loop(samples, split, self.steps, strategy, settings)
        warmup = training.warmup_epochs * self.loop.steps_per_epoch
        self.rates = LearningRate(training.learning_rate, strategy.size, training.scale_learning_rate, warmup)
        self.phantom = packed.phantom
        self.parts = (len(split.training), len(split.validation))

    def _near(self, packed: Packed) -> tuple[Packed, Staged]:
        """The data on the node's own disk, where that is asked for; once a node."""
        if self.place.stage == "none":
            return packed, Staged(packed.path, "not asked for")
        leads = self.strategy.rank == 0
        found = read_manifest(packed.path)
        assert found is not None  # it was read a moment ago
        manifest = found

        def say(text: str) -> None:
            if leads:
                print(text, flush=True)

        def send() -> str:
            begin, how = broadcast(packed.path, manifest)
            say(f"data: {how}")
            return begin

        brought = agreed(self.strategy, send) if self.place.stage == "sbcast" else ""
        readers = Readers(readers_here(), self.strategy.size, self.training.epochs)
        staged = stage(packed.path, manifest, self.place.stage, readers, brought=brought, say=say)
        how = f"copied in {staged.seconds:.1f} s" if staged.bytes else "read where it is"
        say(f"data {how}: {staged.why}")
        near = open_packed(staged.path) if staged.bytes else packed
        self.strategy.sum(np.zeros(1))  # every rank knows, and has it open: the names may go
        staged.remove()
        return near, staged

    def restore(self) -> Progress:
        """Load the last committed checkpoint on rank 0, if there is one, and give all ranks its state."""
        progress = Progress()
        variables = [*self.steps.model.variables, *self.steps.optimizer.variables]

        def load() -> str:
            nonlocal progress
            found = checkpoint.latest(self.place.checkpoints)
            if found is not None:
                path, progress = found
                for group, arrays in zip(self._groups(), checkpoint.load(path), strict=True):
                    checkpoint.assign(group, arrays, path)
            return str(progress.epoch)

        epoch = int(agreed(self.strategy, load))
        self.strategy.broadcast(variables)
        return progress if self.strategy.rank == 0 else Progress(epoch)

    def _groups(self) -> tuple[list[Any], list[Any]]:
        return self.steps.model.variables, self.steps.optimizer.variables

    def run(self, started: float, notes: Mapping[str, Any]) -> None:
        """Train from the last checkpoint to the last epoch. ``started``: time.perf_counter() when the process
        began; ``notes`` stand in the last line of the metrics.
        """
        training, leads = self.training, self.strategy.rank == 0
        terminal, log = Terminal(training.epochs), MetricsLog(self.place.metrics)
        progress = self.restore()
        first = progress.epoch
        history = log.rewind(first, finished=first >= training.epochs) if leads else []
        self.steps.compile(self.loop.example())
        startup_s, input_s = time.perf_counter() - started, 0.0
        if leads:
            terminal.say(self._headline(first, startup_s))
        last = history[-1] if history else {}
        for epoch in range(first + 1, training.epochs + 1):
            begun = time.perf_counter()
            values, waited = self._epoch(epoch, terminal if leads else None)
            input_s += waited
            values |= {"epoch_s": round(time.perf_counter() - begun, 3), "ranks": self.strategy.size}
            if not math.isfinite(values["loss"]):
                # The sum over ranks: all see it and end together.
                raise RunError(
                    f"the loss is {values['loss']} in epoch {epoch} (lower training.learning_rate)"
                )
            progress = progress.after(epoch, values["val_dice"])
            if leads:
                log.append("epoch", values)
                terminal.epoch(values)
                if epoch % training.checkpoint_every == 0 or epoch == training.epochs:
                    weights, optimizer = map(checkpoint.arrays_of, self._groups())
                    checkpoint.save(self.place.checkpoints, weights, optimizer, progress)
            last = values
        used = self._used()
        if leads and last.get("event") != "end":
            times = {"startup_s": round(startup_s, 3), "input_s": round(input_s, 3)}
            if self.place.stage != "none":
                times |= {"stage_s": self.staged.seconds, "staged_bytes": self.staged.bytes}
            total = {"total_s": round(time.perf_counter() - started, 3), "resumed_from": first}
            log.append(
                "end",
                {**_summary(last, progress), **times, **total, **used, **notes, "ranks": self.strategy.size},
            )

    def _used(self) -> dict[str, float]:
        """CPU seconds and peak resident memory (MiB) summed over the ranks, as the kernel counts them."""
        mine = resource.getrusage(resource.RUSAGE_SELF)
        cpu, memory = self.strategy.sum(np.array([mine.ru_utime + mine.ru_stime, mine.ru_maxrss / 1024]))
        return {"cpu_s": round(float(cpu), 3), "peak_memory_mb": round(float(memory), 1)}

    def _epoch(self, epoch: int, terminal: Terminal | None) -> tuple[dict[str, Any], float]:
        """Train and validate; the values of the epoch's line and the seconds that steps waited for input."""

        def show(step: int, steps: int, loss: float) -> None:
            if terminal is not None:
                terminal.step(epoch, step, steps, loss)

        trained = self.loop.train(epoch, self.rates, show)
        validated = self.loop.validate()
        values = {
            "epoch": epoch,
            "loss": trained.loss,
            "dice": trained.dice,
            "val_loss": validated.loss,
            "val_dice": validated.dice,
            "images_per_s": round(trained.samples / trained.seconds, 3),
            "allreduce_s": round(trained.allreduce_s, 4),
            "train_s": round(trained.seconds, 3),
            "learning_rate": trained.learning_rate,
        }
        return values, trained.input_s

    def _headline(self, first: int, startup_s: float) -> str:
        spec, (train, validate) = self.training.model, self.parts
        weights = sum(int(w.shape.num_elements()) for w in self.steps.model.trainable_variables)
        what = "PHANTOM subjects" if self.phantom else "subjects"
        resumed = f", resumed after epoch {first}" if first else ""
        return (
            f"{spec.name}: {weights} weights, {train} {what} train and {validate} validate, "
            f"{self.strategy.size} rank(s), started in {startup_s:.1f} s{resumed}"
        )


def _summary(last: dict[str, Any], progress: Progress) -> dict[str, Any]:
    names = ("loss", "dice", "val_loss", "val_dice", "images_per_s")
    final: dict[str, Any] = {name: last[name] for name in names if name in last}
    best: dict[str, Any] = {"best_epoch": progress.best_epoch, "best_val_dice": progress.best_val_dice}
    return {"epoch": progress.epoch, **final, **best}


def run_job(training: Training, place: Place, started: float, planned: int | None) -> None:
    """Everything after the arguments: TensorFlow, the strategy, the data, the model, the training.

    ``planned``: ranks that MPI must have put together, None where nobody planned any. Raises RunError or
    InputError.
    """
    configure_tensorflow(training.deterministic)
    strategy = load_strategy(training.strategy)
    notes: dict[str, Any] = {}
    try:
        expect_size(strategy, planned)
        if strategy.rank == 0:
            place.metrics.parent.mkdir(parents=True, exist_ok=True)
            place.checkpoints.mkdir(parents=True, exist_ok=True)
            size = checkpoint_bytes(training.model, len(training.data.modalities))
            notes["stripes"] = stripes.prepare(place.checkpoints, size, 1, place.stripes).to_json()
        TrainingJob(training, place, strategy).run(started, notes)
    finally:
        strategy.close()
