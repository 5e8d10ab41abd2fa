"""status, watch, logs and cancel, as a user runs them, on both engines: the same words for the same things."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcflow.engines import engine
from hpcflow.engines.base import Engine
from hpcflow.jobs.job import After, Job
from hpcflow.jobs.registry import remember
from hpcflow.jobs.rundir import RunDir
from runs import TRAIN, command, ended, job, lay, training, wait_until

ENGINES = [pytest.param("local"), pytest.param("slurm", marks=pytest.mark.slurm)]
FOREVER = "echo begun; sleep 600"


class Place:
    """An engine, and a folder in which runs of it are made and known."""

    def __init__(self, name: str, folder: Path) -> None:
        self.engine: Engine = engine(name)
        self.name, self.folder, self.made = name, folder, 0

    def submit(self, *jobs: Job) -> RunDir:
        self.made += 1
        run = lay(self.folder / "it's $(here)", jobs, self.name, run_id=f"2026010{self.made}-000000-aaaa")
        self.engine.submit(run, run.graph)
        remember(run)
        return run

    def run(self, *jobs: Job) -> RunDir:
        run = self.submit(*jobs)
        ended(self.engine, run)
        return run

    def until_running(self, run: RunDir, task: str = "long") -> None:
        wait_until(lambda: run.task(task, 0).log.is_file() and b"begun" in run.task(task, 0).log.read_bytes())


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    if request.param == "slurm":
        monkeypatch.setenv("SLURM_CONF", request.getfixturevalue("cluster").env["SLURM_CONF"])
    found = Place(request.param, tmp_path)
    yield found
    for path in (tmp_path / "it's $(here)" / "unet").glob("*"):
        found.engine.cancel(RunDir(path))


def test_status_shows_every_state_and_ends_with_1_when_a_task_failed(place: Place) -> None:
    run = place.run(
        training(),
        job("bad", "exit 5"),
        job("killed", "kill -SEGV $$"),
        job("never", "true", after=(After("bad"),)),
    )
    got = command("status")
    assert got.returncode == 1 and got.stderr == ""
    assert got.stdout.startswith(
        f"{run.name} on {place.name}: 1 done, 2 failed, 1 cancelled\n{run.path}\n\nTASK "
    )
    lines = {line.split()[0]: line for line in got.stdout.splitlines()[4:]}
    assert re.fullmatch(r"train +done +\S+ +\S+ +0:00:\d\d +0", lines["train"])
    assert re.fullmatch(r"bad +failed .* 5 +exit code 5 on \S+", lines["bad"])
    assert re.fullmatch(r"killed +failed .* 139 +ended by SIGSEGV on \S+", lines["killed"])
    assert re.match(r"never +cancelled ", lines["never"])


def test_status_as_json_is_one_document(place: Place) -> None:
    run = place.run(job("array", 'exit "$HPCFLOW_TASK"', tasks=2))
    got = command("status", run.path, "--json")
    document = json.loads(got.stdout)
    assert got.returncode == 1
    assert {key: document[key] for key in ("run", "path", "engine", "state")} == {
        "run": run.name, "path": str(run.path), "engine": place.name, "state": "failed",
    }  # fmt: skip
    assert [(t["job"], t["task"], t["state"], t["exit_code"]) for t in document["tasks"]] == [
        ("array", 0, "done", 0),
        ("array", 1, "failed", 1),
    ]
    assert all(task["elapsed_s"] >= 0 and task["host"] and task["ended"] for task in document["tasks"])


def test_status_folds_large_arrays(place: Place) -> None:
    run = place.run(job("sweep", '[ "$HPCFLOW_TASK" -ne 7 ]', tasks=25))
    folded = command("status", run.name).stdout.splitlines()[4:]
    assert [line.split("  ")[0] for line in folded] == ["sweep [0-6,8-24] 24", "sweep [7] 1"]
    assert len(command("status", run.name, "--all").stdout.splitlines()[4:]) == 25


def test_status_of_what_is_well_so_far_ends_with_0_and_cancel_ends_it(place: Place) -> None:
    run = place.submit(job("long", FOREVER), job("next", "true", after=(After("long"),)))
    place.until_running(run)
    got = command("status")
    assert got.returncode == 0
    assert "1 waiting, 1 running" in got.stdout and "waits for the jobs before it" in got.stdout
    told = command("cancel", "last")
    assert (told.returncode, told.stdout) == (0, f"{run.name}: 2 tasks cancelled\n")
    assert {str(status.state) for status in ended(place.engine, run)} == {"cancelled"}
    again = command("cancel", run.path)
    assert (again.returncode, again.stdout) == (0, f"{run.name}: nothing to cancel, every task has ended\n")


def test_variables_that_narrow_slurms_commands_hide_no_job(place: Place) -> None:
    run = place.submit(job("long", FOREVER))
    place.until_running(run)
    narrow = {"SQUEUE_PARTITION": "nowhere", "SCANCEL_PARTITION": "nowhere", "SCANCEL_STATE": "PENDING"}
    assert "1 running" in command("status", env=narrow).stdout
    assert command("cancel", "last", env=narrow).stdout == f"{run.name}: 1 task cancelled\n"
    assert {str(status.state) for status in ended(place.engine, run)} == {"cancelled"}


def test_what_is_cancelled_before_its_program_is_launched_is_never_launched(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASH_FUNC_module%%", "() { echo begun; sleep 2; }")
    run = place.submit(job("long", "echo launched", modules=("slow",)))
    place.until_running(run)
    assert command("cancel", "last").returncode == 0
    (status,) = ended(place.engine, run)
    assert (str(status.state), status.record and status.record.exit_code) == ("cancelled", 143), status
    assert b"launched" not in run.task("long", 0).log.read_bytes()


@pytest.mark.parametrize("text", ["{}", "[]", '{"jobs": [{}]}', '{"runner": {}}', "null", "[1]"])
@pytest.mark.parametrize("name", ["graph.json", "local.json"])
def test_a_damaged_run_is_named_in_one_sentence(tmp_path: Path, name: str, text: str) -> None:
    run = lay(tmp_path, [job("one", "true")])
    (run.path / name).write_text(text)
    for words in (
        (("status",), ("cancel",), ("resume",)) if name == "local.json" else (("logs",), ("report",))
    ):
        got = command(*words, run.path, env={"XDG_STATE_HOME": str(tmp_path)})
        assert (got.returncode, got.stdout) == (1, ""), got.stderr
        assert f"{name} is damaged" in got.stderr and "Traceback" not in got.stderr


def test_watch_without_a_terminal_prints_changes_until_the_end(place: Place) -> None:
    run = place.submit(
        job("prepare", "sleep 5"),  # longer than watch takes to start where the machine is busy
        training(script=f"EPOCH_S=0.7\n{TRAIN}", after=(After("prepare"),)),
    )
    got = command("watch", run.name)
    assert got.returncode == 0 and got.stderr == ""
    lines = [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in got.stdout.splitlines()]
    assert len(set(lines)) == len(lines), "a line is a change"
    train = [line.split("  ") for line in lines if line.startswith("train")]
    assert train[0][:3] == ["train", "waiting", "waits for the jobs before it"]
    assert train[-2] == ["train", "epoch 3/3", "loss 0.6000", "val_dice 0.6000", "300.0 images/s"]
    assert train[-1][:2] == ["train", "done"]
    assert "\x1b" not in got.stdout


def test_watch_of_a_run_that_fails_ends_with_1(place: Place) -> None:
    run = place.submit(job("bad", "exit 3"))
    got = command("watch", run.path)
    assert got.returncode == 1
    assert "failed  exit code 3 on " in got.stdout


class Terminal:
    """A command on a terminal of its own, of a size."""

    def __init__(self, *arguments: str, rows: int = 24, columns: int = 100, **environ: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hpcflow.cli", *arguments], stdin=slave, stdout=slave, stderr=slave,
            env={**os.environ, "TERM": "xterm", **environ}, start_new_session=True, preexec_fn=self._take,
        )  # fmt: skip
        os.close(slave)

    @staticmethod
    def _take() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it, and hand that on

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, pattern: str, timeout: float = 60.0) -> str:
        """Everything printed since the last call, once ``pattern`` is in it; control sequences taken out."""
        deadline, new = time.monotonic() + timeout, ""
        while not re.search(pattern, new):
            assert time.monotonic() < deadline, f"{pattern!r} was not printed: {new!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    data = os.read(self.master, 65536)
                except OSError:  # Linux's way to say that the other side is closed
                    assert re.search(pattern, new), f"{pattern!r} was not printed: {new!r}"
                    break
                new += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode(errors="replace"))
        return new


def test_watch_on_a_terminal_is_a_live_table_that_ctrl_c_ends_without_touching_jobs(place: Place) -> None:
    run = place.submit(job("long", f"{TRAIN}\n{FOREVER}", files={}))
    terminal = Terminal("watch")
    terminal.until(r"long +running.*━━━━━━━━━━ 3/3 +300 +0\.6 +0\.6")
    terminal.resize(10, 40)
    terminal.until(r"TASK +STATE +ELAPSED +EPOCH *\r\n─+\r\nlong +running .*3/3 *\r\nCtrl-C")
    os.write(terminal.master, b"\x03")
    assert terminal.process.wait(10) == 130
    time.sleep(0.5)
    assert [str(status.state) for status in place.engine.statuses(run)] == ["running"]


def test_watch_on_a_terminal_ends_by_itself(place: Place) -> None:
    place.submit(training())
    terminal = Terminal("watch", PYTHONIOENCODING="ascii")
    terminal.until(r"unet/\S+ on \w+: 1 done[\s\S]*\?{10} 3/3")
    assert terminal.process.wait(10) == 0
    plain = Terminal("watch", TERM="dumb")
    plain.until(r"\d\d:\d\d:\d\d  train  done")
    assert plain.process.wait(10) == 0


def test_logs_are_those_of_the_failed_task_or_else_of_the_last_started(place: Place) -> None:
    run = place.run(job("first", "echo one"), job("second", "sleep 1; echo two", after=(After("first"),)))
    assert command("logs", "last").stdout == "two\n"
    assert command("logs", "last").stderr == f"==> {run.task('second', 0).log} <==\n"
    assert command("logs", run.name, "first").stdout == "one\n"
    run = place.run(job("bad", "echo no >&2; exit 1"), job("good", "sleep 1; echo yes"))
    assert command("logs", run.path).stdout == "no\n"


def test_logs_of_an_array(place: Place) -> None:
    place.run(job("array", 'echo "task $HPCFLOW_TASK"; exit $((HPCFLOW_TASK == 1))', tasks=3))
    assert command("logs", "last", "array/2").stdout == "task 2\n"
    assert command("logs", "last", "array").stdout == "task 1\n"
    assert command("logs", "last").stdout == "task 1\n"


def test_logs_are_bytes_as_they_are_and_their_last_lines(place: Place) -> None:
    place.run(job("loud", r"seq 100000; printf 'a\0b\033[31m\377\rlast'"))
    argv = [sys.executable, "-m", "hpcflow.cli", "logs", "last"]
    tail = b"a\0b\x1b[31m\xff\rlast"
    numbers = [b"%d\n" % number for number in range(1, 100001)]
    for flags, expected in (
        ([], b"".join(numbers) + tail),
        (["-n", "3"], b"".join(numbers[-2:]) + tail),
        (["-n", "1"], tail),
        (["-n", "50000"], b"".join(numbers[-49999:]) + tail),
        (["-n", "0"], b""),
    ):
        assert subprocess.run([*argv, *flags], capture_output=True, check=True).stdout == expected


def test_logs_are_followed_until_the_task_ends(place: Place) -> None:
    place.submit(job("slow", "for i in 1 2 3 4; do echo $i; sleep 0.5; done; printf end"))
    wait_until(lambda: command("logs", "last").stdout != "")
    assert command("logs", "last", "slow", "-f").stdout == "1\n2\n3\n4\nend"


def test_following_is_ended_by_ctrl_c_and_the_job_goes_on(place: Place) -> None:
    run = place.submit(job("long", FOREVER))
    place.until_running(run)
    terminal = Terminal("logs", "last", "-f")
    terminal.until("begun")
    os.kill(terminal.process.pid, signal.SIGINT)
    assert terminal.process.wait(10) == 130
    assert [str(status.state) for status in place.engine.statuses(run)] == ["running"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("status", "nothing"), 2, "there is no run 'nothing'"),
        (("watch", "nothing"), 2, "there is no run 'nothing'"),
        (("cancel",), 2, "RUN"),
        (("cancel", "nothing"), 2, "there is no run 'nothing'"),
        (("logs", "last", "nothing"), 2, "has no job 'nothing' (it has: one)"),
        (("logs", "last", "one/7"), 2, "the job one has no task '7' (they are numbered 0 to 0)"),
        (("logs", "last", "one/x"), 2, "the job one has no task 'x'"),
        (("logs", "last", "-n", "many"), 2, "many"),
        (("logs", "last"), 1, "no task of unet/20260101-000000-aaaa has begun yet"),
        (("status", "--frobnicate"), 2, "--frobnicate"),
    ],
)
def test_bad_input_is_one_sentence_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    remember(lay(tmp_path, [job("one", "true")] + [job("two", "true")] * (arguments == ("logs", "last"))))
    got = command(*arguments)
    assert (got.returncode, got.stdout) == (code, "")
    assert sentence in got.stderr and "Traceback" not in got.stderr


@pytest.mark.parametrize("arguments", [("status",), ("watch",), ("cancel", "last")])
def test_a_scheduler_that_is_not_there_is_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    run = lay(tmp_path, [job("one", "true")], "slurm")
    remember(run)
    got = command(*arguments, env={"PATH": "/nowhere"})
    if arguments[0] == "cancel":  # nothing was queued, so there is nobody to ask
        assert got.returncode in (0, 3)
    else:
        assert got.returncode == 3
    assert got.stdout == "" or got.returncode == 0
    assert "Traceback" not in got.stderr


def test_looking_at_runs_imports_nothing_heavy() -> None:
    code = """
import importlib, sys
for name in ("status", "watch", "logs", "cancel", "report"):
    importlib.import_module(f"hpcflow.cli.{name}")
print(*(name for name in ("tensorflow", "pandas", "numpy", "matplotlib", "mpi4py", "rich") if name in sys.modules))
"""
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "\n"
    )
