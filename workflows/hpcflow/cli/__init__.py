"""The command line: a table of commands, each in a module of its own that is imported when it is called.

The help page and the errors are printed from here without Typer, which costs more to import than `hpcflow --help`
may take altogether.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence

import hpcflow
from hpcflow.errors import EXIT_INPUT, EXIT_INTERRUPTED, HpcflowError

# command -> (arguments, what it does); the module is hpcflow.cli.<command>
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Write an experiment": {
        "init": ("TEMPLATE DIR", "Start an experiment from a template."),
        "validate": ("CONFIG...", "Check experiments: every error at once, with its place."),
        "schema": ("", "Print the JSON Schema of an experiment, for editors."),
        "map": ("[CONFIG]", "Draw which rank runs on which cores, and the launcher's line for it."),
        "render": ("CONFIG", "Show everything that a submit would do, without doing it."),
    },
    "Run it": {
        "submit": ("CONFIG", "Queue an experiment on Slurm, or run it on this machine."),
        "tune": ("CONFIG", "Find the ranks and threads that train fastest."),
        "status": ("[RUN]", "Show the state of a run's jobs."),
        "watch": ("[RUN]", "Follow a run until it ends."),
        "logs": ("RUN [JOB]", "Print what a job printed."),
        "resume": ("RUN", "Queue again what has not ended well."),
        "cancel": ("RUN", "Cancel what has not ended."),
        "report": ("RUN...", "Gather results into a table and a CSV file."),
    },
    "Look around": {
        "doctor": ("[CONFIG]", "Say what this site has, and what to mend."),
        "fed": ("COMMAND", "Merge updates of a federation by hand, and look at its rounds."),
        "container": ("COMMAND", "Build images, and check one before jobs use it."),
        "data": ("COMMAND", "Make phantom data sets, and share data among collaborators."),
    },
}

FOOT = """\
RUN is a run's name, its path, or `last`. `hpcflow COMMAND --help` says more.
Options of all: --version, --debug (show the traceback of an error).
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and end the process with its exit code (0, 1, 2, 3 or 130, see hpcflow.errors)."""
    # Looking for cycles while modules are imported is 10 of the 350 ms that a `render` may take.
    gc.set_threshold(100_000)
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(args: list[str]) -> int:
    """Run one command; the exit code."""
    debug = "--debug" in args
    if debug:
        args.remove("--debug")
    if not args or args[0] in ("--help", "-h", "help"):
        print(usage(), end="")
        return 0
    if args[0] == "--version":
        print(f"hpcflow {hpcflow.__version__}")
        return 0
    known = [name for group in COMMANDS.values() for name in group]
    if args[0] not in known:
        print(_unknown(args[0], known), file=sys.stderr)
        return EXIT_INPUT
    try:
        return _call(args[0], args[1:])
    except HpcflowError as error:
        if debug:
            raise
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (as in `hpcflow status | head -1`); Python would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def usage() -> str:
    """The page that `hpcflow --help` prints."""
    lines = [
        "hpcflow: from one YAML file to batch jobs and a table of results",
        "",
        "usage: hpcflow COMMAND ...",
    ]
    for title, commands in COMMANDS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {f'{name} {arguments}':<22} {what}" for name, (arguments, what) in commands.items()]
    return "\n".join([*lines, "", FOOT])


def _unknown(name: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean `hpcflow {near[0]}`?" if near else "`hpcflow --help` lists them"
    return f"hpcflow: there is no command `{name}` ({hint})"


def _call(name: str, args: list[str]) -> int:
    import typer

    module = importlib.import_module(f"hpcflow.cli.{name}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        app.command(name)(module.command)
    try:
        app(args, prog_name=f"hpcflow {name}")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0
