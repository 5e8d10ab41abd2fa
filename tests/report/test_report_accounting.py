"""sacct: its arguments, and its text as Slurm 22.05.8 printed it."""

from __future__ import annotations

import pytest

from cluster import Cluster
from hpcflow.report.accounting import Usage, ask, environment, megabytes, sacct, seconds, usages

TEXT = """\
17|1795347747|1795347748|1795347753|00:00.225|
17.batch|1795347748|1795347748|1795347753|00:00.225|215326720
18|1795347750|1795347755|1795347855|1-02:03:04|
18.batch|1795347755|1795347755|1795347855|00:01.000|5242880
18.0|1795347755|1795347755|1795347855|1-02:03:03|10485760
1_11|1795347710|1795347712|1795347712|00:00.011|
1_11.batch|1795347712|1795347712|1795347712|00:00.011|
19|1795347760|Unknown|Unknown|00:00:00|
1_[12-99]|1795347710|None|Unknown|00:00:00|
sacct: a line of another kind
"""


def test_one_command_asks_for_all_jobs_arrays_by_their_number() -> None:
    assert sacct(["7", "8_0", "8_1", "9"]) == [
        "sacct",
        "--noheader",
        "--parsable2",
        "--noconvert",
        "--jobs=7,8,9",
        "--format=JobID,Submit,Start,End,TotalCPU,MaxRSS",
    ]


def test_inherited_settings_do_not_change_what_it_prints() -> None:
    got = environment({"SACCT_FORMAT": "User", "SLURM_TIME_FORMAT": "relative", "PATH": "/bin"})
    assert got == {"SLURM_TIME_FORMAT": "%s", "PATH": "/bin"}


def test_jobs_have_their_own_times_and_the_largest_memory_of_their_steps() -> None:
    found = usages(TEXT)
    assert found["17"] == Usage(1795347747, 1795347748, 1795347753, 0.225, pytest.approx(205.35, abs=0.01))
    assert found["18"] == Usage(1795347750, 1795347755, 1795347855, 93784.0, 10.0)
    assert found["1_11"] == Usage(1795347710, 1795347712, 1795347712, 0.011, None)
    assert found["19"] == Usage(1795347760, None, None, 0.0, None)
    assert len(found) == 5


@pytest.mark.parametrize(
    ("text", "value"),
    [("00:00.225", 0.225), ("12:34:56", 45296.0), ("1-00:00:01", 86401.0), ("", None), ("x", None), ("1:2:3:4", None)],
)  # fmt: skip
def test_durations(text: str, value: float | None) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("1048576", 1.0), ("2048K", 2.0), ("1.5G", 1536.0), ("3M", 3.0), ("1T", 1048576.0), ("", None), ("16?", None)],
)  # fmt: skip
def test_memory_in_mib(text: str, value: float | None) -> None:
    assert megabytes(text) == value


def test_jobs_of_no_scheduler_are_asked_for_nowhere() -> None:
    assert ask(["", "local"], {"PATH": "/nowhere"}) == {}
    assert ask(["1"], {"PATH": "/nowhere"}) == {}


@pytest.mark.slurm
def test_a_cluster_without_accounting_tells_nothing(cluster: Cluster) -> None:
    assert ask(["1", "2_3"], cluster.env) == {}


@pytest.mark.slurm
def test_a_cluster_with_accounting_tells_times_and_cpu_of_jobs_and_array_tasks(
    accounting_cluster: Cluster,
) -> None:
    spin = "timeout 1 sh -c 'while :; do :; done'; true"
    one, many = (
        accounting_cluster.run(
            "sbatch", "--parsable", "--wait", "--output=/dev/null", *flags, f"--wrap={spin}"
        ).stdout.strip()
        for flags in ((), ("--array=0-1",))
    )
    for _ in range(50):  # slurmdbd hears of an end a moment after slurmctld
        found = ask([one, f"{many}_0", f"{many}_1"], accounting_cluster.env)
        if len(found) == 3 and all(usage.ended for usage in found.values()):
            break
    assert set(found) == {one, f"{many}_0", f"{many}_1"}
    for usage in found.values():
        assert usage.submitted and usage.started and usage.ended and usage.cpu_s is not None
        assert usage.submitted <= usage.started < usage.ended
        assert 0.1 < usage.cpu_s < 5
