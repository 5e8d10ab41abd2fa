"""hpcflow data phantom, as it is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_runs import run_module


def test_phantoms_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    out = tmp_path / 'it\'s $(a) "folder"'
    done = run_module(
        "hpcflow.cli", "data", "phantom", out, "--subjects", "2", "--shape", "16,20,12", "--seed", "4"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{out}\n", "")
    dataset = json.loads((out / "dataset.json").read_text())
    assert "PHANTOM" in dataset["name"] and dataset["numTraining"] == 2
    assert len(list(out.glob("*Tr/PHANTOM_00*.nii.gz"))) == 4
    assert [path.name for path in tmp_path.iterdir()] == [out.name], "nothing temporary is left"


@pytest.mark.parametrize(
    ("out", "options", "sentence"),
    [
        (
            ".",
            ["--shape", "3,4"],
            "--shape: `3,4` is no shape (three numbers of voxels, for example 64,64,48)\n",
        ),
        ("new", ["--shape", "4,4,4"], "a phantom of 4,4,4 voxels cannot be made (8 to 512 an edge)\n"),
        (
            "new",
            ["--shape", "100000,100000,100000"],
            "a phantom of 100000,100000,100000 voxels cannot be made (8 to 512 an edge)\n",
        ),
        ("new", ["--tumour-radius", "0.1"], "is no range (two fractions, for example 0.14,0.26)\n"),
        (
            "new",
            ["--tumour-radius", "0.3,0.2"],
            "tumour_radius must be two rising fractions between 0 and 0.5\n",
        ),
        (".", ["--shape", "8,8,8"], " is there already (name a folder that does not exist)\n"),
        ("file/new", ["--shape", "8,8,8"], "/file: File exists\n"),
    ],
)
def test_what_is_wrong_is_exit_2_and_a_sentence(
    tmp_path: Path, out: str, options: list[str], sentence: str
) -> None:
    (tmp_path / "file").write_text("")
    done = run_module("hpcflow.cli", "data", "phantom", tmp_path / out, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(sentence) and done.stderr.count("\n") == 1
