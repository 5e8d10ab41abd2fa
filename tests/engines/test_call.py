"""What is told of a command of Slurm's that does not end. The clients here are shell commands that do as sbatch 22.05."""

import pytest

from hpcflow.engines import call as module
from hpcflow.engines.call import call
from hpcflow.errors import SiteError


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("sleep 9", "sh gave no answer in 0.3 s (is slurmctld up?)"),
        (
            # Where MaxJobCount is reached.
            "echo 'sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying.' >&2; sleep 9",
            "sh gave no answer in 0.3 s and says: Slurm temporarily unable to accept job, sleeping and retrying.",
        ),
    ],
)
def test_what_does_not_end_is_told_with_what_it_said(
    monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.3)
    with pytest.raises(SiteError) as caught:
        call(["sh", "-c", script])
    assert str(caught.value) == message
    assert caught.value.transient
