"""One of two real MPI ranks fails while the other waits for it: both end, and the reason is on the screen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MPIRUN = Path(sys.executable).with_name("mpirun")
PROGRAM = """
import sys
from hpcflow.jobs.ending import end_with

def main():
    from mpi4py import MPI
    if MPI.COMM_WORLD.rank == 0:
        {failure}
    MPI.COMM_WORLD.Barrier()
    return 0

end_with(main)
"""


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        ("raise ValueError('a bug')", 1, "ValueError: a bug"),
        ("print('one sentence', file=sys.stderr); return 3", 3, "one sentence"),
        ("sys.exit(4)", 4, ""),
    ],
)
def test_a_rank_that_fails_alone_ends_all(failure: str, code: int, said: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(failure=failure))
    command = [MPIRUN, "--oversubscribe", "--bind-to", "none", "-np", "2", sys.executable, program]
    ended = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == code
    assert said in ended.stderr


def test_one_process_ends_as_python_does(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("from hpcflow.jobs.ending import end_with\nend_with(lambda: 5)\n")
    assert subprocess.run([sys.executable, program], check=False).returncode == 5
