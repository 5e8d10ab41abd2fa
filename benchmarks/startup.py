"""How long a user waits for the command itself, against Python's own start in the same run.

    .venv/bin/python benchmarks/startup.py

Goals: `hpcflow --help` within 2.5 x (`python -c "import argparse"`) + 60 ms; `hpcflow render configs/unet.yaml` within
0.35 s; scripts/hpcflow adds at most 50 ms. What render cannot go below is the import of the libraries that it is made
of, with one model of one field: it is measured in the same run. Medians of whole processes, in turn, so that a change
of the machine's speed meets all of them.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HPCFLOW = Path(sys.executable).with_name("hpcflow")
RUNS = 15
LIBRARIES = """
import jinja2, pydantic, typer, yaml
class Section(pydantic.BaseModel):
    nodes: int = 1
Section.model_validate({"nodes": 2})
"""
COMMANDS = {
    "python -c 'import argparse'": [sys.executable, "-c", "import argparse"],
    "hpcflow --help": [HPCFLOW, "--help"],
    "scripts/hpcflow --help": [ROOT / "scripts" / "hpcflow", "--help"],
    "hpcflow render": [HPCFLOW, "render", ROOT / "configs" / "unet.yaml", "--engine", "local"],
    "pydantic, typer, jinja2, yaml": [sys.executable, "-c", LIBRARIES],
    "hpcflow status --help": [HPCFLOW, "status", "--help"],
}


def seconds(command: list[str | Path]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - start


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(RUNS + 1):
        for name, command in COMMANDS.items():
            taken = seconds(command)
            if turn:
                times[name].append(taken)
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(
            f"{name:<30} median {median[name] * 1e3:6.1f} ms  ({min(values) * 1e3:.1f} to {max(values) * 1e3:.1f})"
        )
    python, page, script, render, libraries = list(median.values())[:5]
    bound = 2.5 * python + 0.060
    print(f"--help against its bound of {bound * 1e3:.1f} ms: {page / bound:.2f}")
    print(
        f"render against its bound of 350 ms: {render / 0.35:.2f}, against its libraries: {render / libraries:.2f}"
    )
    shell = script - page
    print(f"shell of scripts/hpcflow: {shell * 1e3:.1f} ms, against its bound of 50 ms: {shell / 0.05:.2f}")


if __name__ == "__main__":
    main()
