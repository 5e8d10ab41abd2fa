"""The command line as a whole: help, unknown commands, what it does not import."""

import subprocess
import sys

from commands import CONFIGS, hpcflow
from hpcflow.cli import COMMANDS

HEAVY = ["tensorflow", "pandas", "matplotlib", "mpi4py", "spython", "horovod", "tf_keras"]


def test_help_lists_every_command_and_each_has_a_page() -> None:
    page = hpcflow("--help")
    assert page.returncode == 0
    names = [name for group in COMMANDS.values() for name in group]
    assert all(f"\n  {name} " in page.stdout for name in names)
    for name in names:
        own = hpcflow(name, "--help")
        assert own.returncode == 0, own.stderr
        assert f"hpcflow {name}" in own.stdout


def test_an_unknown_command_names_the_nearest() -> None:
    result = hpcflow("sumbit")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "hpcflow: there is no command `sumbit` (did you mean `hpcflow submit`?)\n"


def test_version() -> None:
    assert hpcflow("--version").stdout.startswith("hpcflow 0.")


def test_a_users_error_is_no_traceback_unless_asked_for() -> None:
    plain = hpcflow("render", "nowhere.yaml")
    assert (plain.returncode, plain.stdout, plain.stderr) == (2, "", "nowhere.yaml: there is no such file\n")
    assert "Traceback" in hpcflow("render", "nowhere.yaml", "--debug").stderr


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = (
        "import sys, hpcflow.cli, hpcflow.cli.submit, hpcflow.cli.render, hpcflow.submission, hpcflow.engines.local\n"
        "import hpcflow.engines.slurm\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_rendering_imports_nothing_heavy() -> None:
    code = (
        "import sys; from hpcflow.cli import run\n"
        f"assert run(['render', {str(CONFIGS / 'unet.yaml')!r}, '--engine', 'local']) == 0\n"
        f"print('\\nHEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nHEAVY []\n")
