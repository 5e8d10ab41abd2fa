"""Who validates, and which rank sees what: for any number of subjects, ranks and samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcflow.errors import InputError
from hpcflow.training.data.shards import EpochPlan, plan_epoch, shuffled
from hpcflow.training.data.split import split_subjects

names = st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=40, unique=True)
sizes = st.integers(1, 17)


def seen(plan: EpochPlan, rank: int) -> list[int]:
    """The samples of one rank that count."""
    return plan.indices[:, rank][plan.weights[:, rank] > 0].tolist()


@given(names, st.floats(0.01, 0.99), st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_the_split_is_by_name_and_never_overlaps(subjects, fraction, seed, random) -> None:
    split = split_subjects(subjects, fraction, seed)
    assert split.training and split.validation
    assert sorted(split.training + split.validation) == list(range(len(subjects)))
    wanted = round(fraction * len(subjects))
    assert len(split.validation) == min(len(subjects) - 1, max(1, wanted))
    shuffled_names = random.sample(subjects, len(subjects))
    again = split_subjects(shuffled_names, fraction, seed)
    assert {subjects[i] for i in split.validation} == {shuffled_names[i] for i in again.validation}


def test_the_split_is_the_same_in_every_version() -> None:
    subjects = [f"BRATS_{i:03d}" for i in range(12)]
    assert split_subjects(subjects, 0.25, 0).validation == (0, 1, 9)
    assert split_subjects(subjects, 0.25, 1).validation != (0, 1, 9)


def test_one_subject_cannot_be_split() -> None:
    with pytest.raises(InputError, match="has 1 subject"):
        split_subjects(["only"], 0.5, 0)


@given(st.integers(1, 300), sizes, st.integers(1, 9), st.integers(0, 2**32), st.integers(1, 5))
def test_shards_are_disjoint_whole_and_of_one_length(
    count: int, size: int, batch: int, seed: int, epoch: int
) -> None:
    samples = np.arange(count, dtype=np.int64) * 3 + 1
    plan = plan_epoch(shuffled(samples, seed, epoch), size, batch)
    assert plan.indices.shape == plan.weights.shape == (-(-count // (size * batch)), size, batch)
    shards = [seen(plan, rank) for rank in range(size)]
    assert sorted(sample for shard in shards for sample in shard) == samples.tolist()
    assert plan.samples == count
    assert (plan.totals >= 1).all()
    assert set(plan.indices.ravel().tolist()) <= set(samples.tolist())
    # Also in a step that is not full the ranks' work differs by one sample at most.
    loads = plan.weights.sum(axis=2)
    assert (loads.max(axis=1) - loads.min(axis=1) <= 1).all()


@given(st.integers(2, 200), st.integers(1, 6), st.integers(0, 2**32))
def test_the_samples_of_a_step_do_not_depend_on_the_number_of_ranks(
    count: int, batch: int, seed: int
) -> None:
    order = shuffled(np.arange(count, dtype=np.int64), seed, 1)
    for size in (2, 3):
        one, many = plan_epoch(order, 1, size * batch), plan_epoch(order, size, batch)
        for step in range(one.steps):
            ranks = [many.indices[step, rank][many.weights[step, rank] > 0] for rank in range(size)]
            alone = one.indices[step, 0][one.weights[step, 0] > 0]
            assert sorted(np.concatenate(ranks).tolist()) == sorted(alone.tolist())


def test_epochs_differ_and_a_limit_cuts_steps() -> None:
    samples = np.arange(100, dtype=np.int64)
    assert shuffled(samples, 0, 1).tolist() != shuffled(samples, 0, 2).tolist()
    assert plan_epoch(samples, 2, 5, limit=3).steps == 3
    assert plan_epoch(samples, 2, 5, limit=3).samples == 30
