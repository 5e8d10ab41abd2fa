"""What all tests share: golden files, the Slurm clusters, and an environment without leftovers of the caller's."""

import difflib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster import accounting_cluster, cluster  # noqa: F401  (fixtures)

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew; read the diff")


def pytest_configure(config: pytest.Config) -> None:
    # Without this a shell inside a Slurm job, or with a cluster chosen, changes what the tests see.
    theirs = ("SLURM", "SBATCH_", "SRUN_", "SALLOC_", "PMI", "OMPI_", "HPCFLOW_")
    for name in list(os.environ):
        if name.startswith(theirs) and name != "HPCFLOW_TEST_CLUSTERS":
            del os.environ[name]
    # Containers test as root. Open MPI 4 wants to be told twice.
    if os.geteuid() == 0:
        os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """golden(name, text): text is what tests/golden/name holds. --update-golden makes it so."""
    update = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        if not path.exists():
            pytest.fail(f"tests/golden/{name} is missing; --update-golden writes it", pytrace=False)
        expected = path.read_text(encoding="utf-8")
        if text != expected:
            diff = difflib.unified_diff(
                expected.splitlines(), text.splitlines(), f"tests/golden/{name}", "what came out", lineterm=""
            )
            pytest.fail(
                "\n".join(["the text has changed; if it should, --update-golden writes it", *diff]),
                pytrace=False,
            )

    return compare
