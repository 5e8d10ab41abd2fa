"""The same bytes from 1, 2 and 4 real MPI ranks, and whatever kernels OpenBLAS takes for the processor."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from federation.files import tensors, write
from federation.test_update import infinite
from hpcflow.errors import RunError
from hpcflow.federation.aggregation import together
from hpcflow.federation.ranks import Alone, ranks
from hpcflow.federation.strategies import TABLE
from hpcflow.federation.tensorfile import publish_tensors

TESTS = Path(__file__).parent.parent
MPIRUN = Path(sys.prefix) / "bin" / "mpirun"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("it's $HOME `x`")
    for index in range(7):
        write(path, f"u{index}", tensors(index), 10 + 3 * index, steps=2 + index, control=tensors(30 + index))
    infinite(path / "u5.safetensors")
    publish_tensors(path / "base", tensors(99), {})
    return path


def run(folder: Path, out: Path, number: int, **environment: str) -> dict[str, Any]:
    out.mkdir()
    command = [sys.executable, str(TESTS / "federation" / "ranks_task.py"), str(folder), str(out)]
    if number > 1:
        command = [str(MPIRUN), "--oversubscribe", "--bind-to", "none", "-n", str(number), *command]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(TESTS), **environment},
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.train
def test_1_2_and_4_ranks_write_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    told = {number: run(folder, tmp_path / str(number), number) for number in (1, 2, 4)}
    assert [told[number].pop("size") for number in (1, 2, 4)] == [1, 2, 4]
    assert told[1] == told[2] == told[4]
    assert all([name for name, _ in told[1][strategy]] == ["u5"] for strategy in TABLE)
    assert told[1]["error"].startswith("the aggregation failed")
    one = files(tmp_path / "1")
    assert set(TABLE) < one.keys()
    assert {"fedadam.state", "scaffold.state"} < one.keys()
    assert one == files(tmp_path / "2") == files(tmp_path / "4")


def test_the_processor_makes_no_difference_to_sums(folder: Path, tmp_path: Path) -> None:
    """OpenBLAS has other kernels for other processors: with and without fused multiply-add, of other widths."""
    results = []
    for kernel in ("Nehalem", "Sandybridge", "Haswell"):
        run(folder, tmp_path / kernel, 1, OPENBLAS_CORETYPE=kernel)
        results.append(files(tmp_path / kernel))
    assert results[0] == results[1] == results[2]


def test_which_launchers_mean_ranks() -> None:
    assert isinstance(ranks({}), Alone)
    assert isinstance(ranks({"OMPI_COMM_WORLD_SIZE": "1"}), Alone)
    assert isinstance(ranks({"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "1"}), Alone)


def test_what_fails_on_one_rank_fails_with_a_sentence() -> None:
    def act() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="No space left on device"):
        together(Alone(), act)
