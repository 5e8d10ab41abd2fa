"""Run by test_training.py under mpirun (2 ranks) or alone: several small trainings in one start of
TensorFlow.

python several_jobs.py CACHE SPEC.json, where SPEC is a list of {folder, training}. Each ends with a
metrics.jsonl and checkpoints in its folder. Under Horovod the collectives are checked first.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from hpcflow.errors import RunError
from hpcflow.experiment.schema import Training
from hpcflow.training.job import Place, TrainingJob, agreed, configure_tensorflow, expect_size
from hpcflow.training.strategies import Strategy, load_strategy


def check_collectives(strategy: Strategy) -> None:
    import tensorflow as tf

    rank = strategy.rank
    variables = [tf.Variable([1.0 + rank, 2.0]), tf.Variable(10 + rank)]
    strategy.average(variables[:1])
    assert variables[0].numpy().tolist() == [1.5, 2.0]
    strategy.broadcast(variables)
    assert variables[1].numpy() == 10
    assert strategy.sum(np.array([1.0, rank])).tolist() == [2.0, 1.0]
    assert strategy.agree("größer" if rank == 0 else "") == "größer"
    assert agreed(strategy, lambda: f"from rank {rank}") == "from rank 0"

    def fails() -> str:
        raise RunError("it went wrong")

    for text, call in (
        ("it went wrong", lambda: agreed(strategy, fails)),
        (f"this process is rank {rank} of 2, and 3 ranks were planned", lambda: expect_size(strategy, 3)),
    ):
        try:
            call()
        except RunError as error:
            assert text in str(error)
        else:
            raise AssertionError(f"no error: {text}")
    expect_size(strategy, 2)


def main() -> None:
    cache, spec = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    configure_tensorflow(deterministic=True)
    strategies: dict[str, Strategy] = {}
    for item in spec:
        training, folder = Training.model_validate(item["training"]), Path(item["folder"])
        strategy = strategies.setdefault(training.strategy, load_strategy(training.strategy))
        if strategy.rank == 0:
            folder.mkdir(parents=True)
        TrainingJob(training, Place("", cache, folder / "metrics.jsonl", folder), strategy).run(
            time.perf_counter(), {}
        )
    for strategy in strategies.values():
        if strategy.size > 1:
            check_collectives(strategy)
        strategy.close()


if __name__ == "__main__":
    main()
