"""The inner loop of means: compiled and not, and for every processor, the same bits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hpcflow.federation import accumulator, native
from hpcflow.federation.accumulator import AT_ONCE
from hpcflow.federation.strategies.base import COEFFICIENT_BITS

Rows = np.ndarray[Any, np.dtype[np.float32]]
floats = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)
weights = st.integers(-(1 << COEFFICIENT_BITS) + 1, (1 << COEFFICIENT_BITS) - 1)


def by_numpy(rows: Rows, by: list[float]) -> bytes:
    """One row after the other, as the docstring says."""
    total = np.zeros(rows.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):
        for row, weight in zip(rows, by, strict=True):
            total = total + weight * row.astype(np.float64)
    return bits(total)


def bits(total: np.ndarray[Any, np.dtype[np.float64]]) -> bytes:
    """Which NaN it is says nothing."""
    return np.where(np.isnan(total), np.nan, total).tobytes()


@contextmanager
def places(rows: Rows) -> Iterator[list[tuple[int, int]]]:
    """The rows one after the other in a file, as blocks of files lie: not at a multiple of anything."""
    with tempfile.TemporaryFile() as file:
        file.write(b"headers" + rows.tobytes())
        file.flush()
        yield [(file.fileno(), 7 + index * rows.shape[1] * 4) for index in range(len(rows))]


def added(rows: Rows, by: list[float]) -> bytes:
    total, room = np.zeros(rows.shape[1]), np.empty(AT_ONCE * rows.shape[1], np.float32)
    with places(rows) as where:
        assert accumulator.add_files(total, where, by, room)
    return bits(total)


def spread(count: int, size: int) -> tuple[Rows, list[float]]:
    """Rows and weights whose sums depend on the order and on every rounding."""
    draw = np.random.default_rng(count * 1000 + size)
    scale = np.exp2(draw.integers(-30, 30, (count, size)))
    rows = (draw.standard_normal((count, size)) * scale).astype(np.float32)
    return rows, draw.integers(1, 1 << COEFFICIENT_BITS, count).astype(float).tolist()


def test_this_installation_has_compiled_it() -> None:
    assert native.library().is_file()
    assert accumulator.compiled() is not None


@given(
    st.integers(1, 13).flatmap(
        lambda count: st.tuples(
            arrays.arrays(np.float32, st.tuples(st.just(count), st.integers(1, 40)), elements=floats),
            st.lists(weights.map(float), min_size=count, max_size=count),
        )
    )
)
def test_compiled_it_adds_from_left_to_right(drawn: tuple[Rows, list[float]]) -> None:
    assert added(*drawn) == by_numpy(*drawn)


def test_numpy_adds_to_the_same_bits() -> None:
    rows, by = spread(21, 5000)
    total, wide = np.zeros(5000), np.empty(5000)
    for row, weight in zip(rows, by, strict=True):
        accumulator.add_row(total, row, "F32", weight, wide)
    assert bits(total) == added(rows, by) == by_numpy(rows, by)


def test_what_cannot_be_read_is_no_sum() -> None:
    rows, by = spread(6, 100)
    total, room = np.zeros(100), np.empty(AT_ONCE * 100, np.float32)
    with places(rows) as where:
        longer = [*where[:-1], (where[-1][0], where[-1][1] + 4)]
        assert not accumulator.add_files(total, longer, by, room)
        assert not accumulator.add_files(total, [*where[:-1], (-1, 0)], by, room)
        assert accumulator.add_files(total, where, by, room)


def test_without_a_compiler_there_is_no_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accumulator, "library", lambda: Path("no such file"))
    assert accumulator.compiled.__wrapped__() is None


def test_the_processor_makes_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fused multiply-add, with it, and with twice as wide vectors."""
    flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
    processors = ["x86-64"]
    processors += ["x86-64-v3"] if {"avx2", "fma", "bmi2"} <= set(flags) else []
    processors += ["x86-64-v4"] if {"avx512f", "avx512vl", "avx512dq", "avx512bw"} <= set(flags) else []
    monkeypatch.setattr(accumulator, "compiled", accumulator.compiled.__wrapped__)
    rows, by = spread(23, 4099)
    for processor in processors:
        library = tmp_path / f"{processor}.so"
        command = ["cc", *native.FLAGS, f"-march={processor}", "-DFOR_EVERY_PROCESSOR="]
        subprocess.run([*command, "-o", str(library), str(native.SOURCE)], check=True)
        monkeypatch.setattr(accumulator, "library", lambda found=library: found)
        assert added(rows, by) == by_numpy(rows, by)


def build(folder: Path, compiler: str = "cc") -> subprocess.CompletedProcess[str]:
    """What an installation does with the two files of ``folder``."""
    return subprocess.run(
        [sys.executable, "-c", "import native; print(native.build())"],
        cwd=folder,
        env={**os.environ, "CC": compiler},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for source in (native.SOURCE, Path(native.__file__)):
        shutil.copy(source, tmp_path)
    return tmp_path


def test_a_changed_source_is_compiled_anew_and_what_was_made_of_the_old_one_goes(folder: Path) -> None:
    first = Path(build(folder).stdout.strip())
    assert first.name == native.library().name
    with (folder / "accumulator.c").open("a") as source:
        source.write("/* changed */\n")
    second = Path(build(folder).stdout.strip())
    assert list(folder.glob("_accumulator-*")) == [second] and second != first


def test_a_compiler_that_fails_is_told_by_its_words(folder: Path) -> None:
    missing = build(folder, "no-such-compiler")
    assert "No such file or directory: 'no-such-compiler'" in missing.stderr
    failing = build(folder, "cc -no-such-option")
    assert "OSError: cc -no-such-option -O3" in failing.stderr and "unrecognized" in failing.stderr
    assert not list(folder.glob("_accumulator-*"))
