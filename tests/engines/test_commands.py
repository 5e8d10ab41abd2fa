"""Slurm's texts, as 22.05.8 printed them."""

import pytest

from hpcflow.engines import commands
from hpcflow.engines.commands import Chunk
from hpcflow.engines.status import Seen, State
from hpcflow.jobs.job import After


def test_a_folded_array_speaks_for_each_of_its_tasks() -> None:
    text = (
        "12|0-1,4-8:2%2|14|PENDING|Resources|2026-11-22T10:00:00\n12|3|13|RUNNING|None|2026-11-22T09:00:00\n"
    )
    seen = commands.squeue(text)
    assert {key[1] for key in seen} == {0, 1, 3, 4, 6, 8}
    assert seen["12", 6] == Seen(State.PENDING, "waits for free nodes", "12_6", "2026-11-22T10:00:00")
    assert seen["12", 3] == Seen(State.RUNNING, "", "12_3")


@pytest.mark.parametrize(
    ("row", "state", "reason"),
    [
        ("7|N/A|7|PENDING|Dependency|N/A", State.WAITING, "waits for the jobs before it"),
        ("7|N/A|7|PENDING|(Priority)|N/A", State.PENDING, "jobs of higher priority go first"),
        (
            "7|N/A|7|PENDING|ReqNodeNotAvail, UnavailableNodes:n3|N/A",
            State.PENDING,
            "a node that it needs is down",
        ),
        ("7|N/A|7|PENDING|SomethingNew|N/A", State.PENDING, "SomethingNew"),
        # A job that has ended keeps what it last waited for; that says nothing any more.
        ("7|N/A|7|CANCELLED|Priority|N/A", State.CANCELLED, ""),
        ("7|N/A|7|FAILED|JobLaunchFailure|N/A", State.FAILED, "its script was killed"),
        ("7|N/A|7|OUT_OF_MEMORY|OutOfMemory|N/A", State.FAILED, "used more memory than it asked for"),
        ("7|N/A|7|NODE_FAIL|NodeDown|N/A", State.FAILED, "a node failed"),
        ("7|N/A|7|TIMEOUT|TimeLimit|N/A", State.TIMEOUT, "reached its time limit"),
        ("7|N/A|7|COMPLETED|None|N/A", State.DONE, ""),
    ],
)
def test_states_and_reasons_in_words(row: str, state: State, reason: str) -> None:
    seen = commands.squeue(row)["7", None]
    assert seen.state is state
    assert seen.reason.startswith(reason) if reason else seen.reason == ""


def test_lines_of_another_form_are_passed_over() -> None:
    assert commands.squeue("slurm_load_jobs error\n\na|b\n") == {}


def test_accounting_reads_ranges_and_who_cancelled() -> None:
    seen = commands.sacct("5_[3-4]|CANCELLED by 1000\n5_2|FAILED\n6|COMPLETED\n")
    assert {key: value.state for key, value in seen.items()} == {
        ("5", 3): State.CANCELLED, ("5", 4): State.CANCELLED, ("5", 2): State.FAILED, ("6", None): State.DONE,
    }  # fmt: skip


def test_arrays_are_cut_so_that_every_piece_begins_at_zero() -> None:
    pieces = list(commands.cut(2500, 1001))
    assert pieces == [(0, 1001), (1001, 1001), (2002, 498)]
    assert list(commands.cut(None, 1001)) == [(0, None)]
    assert commands.sbatch_flags(1001, 5, ["afterok:1"]) == ["--array=0-1000%5", "--dependency=afterok:1"]


def test_dependencies_on_jobs_in_pieces() -> None:
    chunks = [Chunk("1", 0, 10), Chunk("2", 10, 5)]
    assert commands.dependency(After("a"), 0, chunks) == "afterok:1:2"
    assert commands.dependency(After("a", "any"), 0, chunks) == "afterany:1:2"
    assert commands.dependency(After("a", "task"), 10, chunks) == "aftercorr:2"


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("allocation failure: Requested nodes are busy\n", "Requested nodes are busy"),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified\n",
            "Invalid account or account/partition combination specified",
        ),
        (
            "sbatch: error: invalid partition specified: x\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified\n",
            "invalid partition specified: x; Invalid partition name specified",
        ),
        ("", "sbatch gave no reason"),
    ],
)
def test_the_reason_of_a_refusal(stderr: str, reason: str) -> None:
    assert commands.refusal(stderr) == reason


def test_the_expected_start() -> None:
    text = "sbatch: Job 5 to start at 2026-11-22T11:37:25 using 1 processors on nodes n1 in partition cpu\n"
    assert commands.expected_start(text) == "2026-11-22T11:37:25"
    assert commands.expected_start("") == ""


def test_what_would_override_the_script_is_not_inherited() -> None:
    dirty = {
        "PATH": "/bin", "HOME": "/h", "SLURM_CONF": "/c", "SBATCH_PARTITION": "x", "SLURM_CPU_BIND": "x",
        "SLURM_CONF_SERVER": "x", "PMI_RANK": "0", "PMIX_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "HPCFLOW_RUN": "/old",
        "PRTE_X": "1", "I_MPI_FABRICS": "shm", "MYSLURM_X": "1",
    }  # fmt: skip
    clean = commands.environment(dirty)
    assert set(clean) == {"PATH", "HOME", "SLURM_CONF", "I_MPI_FABRICS", "MYSLURM_X", "SLURM_BITSTR_LEN"}
