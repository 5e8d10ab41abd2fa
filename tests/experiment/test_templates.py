"""hpcflow init and hpcflow schema, through the commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def hpcflow(*words: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "hpcflow.cli", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, timeout=60, env=dict(os.environ)
    )


def test_the_schema_beside_the_examples_is_current() -> None:
    result = hpcflow("schema")
    assert result.returncode == 0
    current = (ROOT / "configs" / "schema.json").read_text(encoding="utf-8")
    assert result.stdout == current, "run: hpcflow schema > configs/schema.json"


def test_editors_are_told_of_it_by_every_example() -> None:
    for path in (ROOT / "configs").glob("*.yaml"):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first == "# yaml-language-server: $schema=schema.json", (
            f"{path.name} must begin with this line"
        )


def test_the_profile_to_start_from_is_right() -> None:
    profile = ROOT / "configs" / "sites" / "example.yaml"
    assert "defaults:" in profile.read_text(encoding="utf-8")
    checked = hpcflow("validate", ROOT / "configs" / "minimal.yaml", "--site", profile)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("words", [(), ("--site",)])
def test_every_key_is_described_and_no_other_is_taken(words: tuple[str, ...]) -> None:
    schema = json.loads(hpcflow("schema", *words).stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"].startswith("hpcflow ")
    sections = {"": schema, **schema["$defs"]}
    if words:
        sections["defaults"] = schema["properties"]["defaults"]
        assert "required" not in sections["defaults"]
    for name, section in sections.items():
        assert section["type"] == "object", name
        assert section["additionalProperties"] is False, name
        for key, value in section["properties"].items():
            inside = schema["$defs"][value["$ref"].rpartition("/")[2]] if "$ref" in value else value
            assert inside.get("description"), f"{name}.{key}"
            assert "title" not in value, f"{name}.{key}"


def test_init_writes_an_experiment_that_is_valid_as_it_stands(tmp_path: Path) -> None:
    """It says the next two commands; a second init refuses, whatever of its files is there."""
    folder = tmp_path / "a b;$(id)'\""
    result = hpcflow("init", "unet", folder.name, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == [".gitignore", "schema.json", "unet.yaml"]
    assert (folder / "unet.yaml").read_text() == (ROOT / "configs" / "unet.yaml").read_text()
    assert (folder / "schema.json").read_text() == (ROOT / "configs" / "schema.json").read_text()
    validate, submit = result.stdout.splitlines()[-2:]
    assert validate.strip().startswith("hpcflow validate ")
    assert submit.strip().startswith("hpcflow submit ")
    script = f'hpcflow() {{ "{sys.executable}" -m hpcflow.cli "$@"; }}; {validate}'
    typed = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert typed.stdout == f"{folder.name}/unet.yaml: ok\n"

    (folder / "unet.yaml").write_text("mine")
    (folder / "schema.json").unlink()
    again = hpcflow("init", "unet", folder)
    assert again.returncode == 2
    assert again.stderr == f"{folder}: unet.yaml, .gitignore would be overwritten (name another folder)\n"
    assert (folder / "unet.yaml").read_text() == "mine"
    assert not (folder / "schema.json").exists()


def test_init_into_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert hpcflow("init", "minimal", tmp_path).returncode == 0
    assert hpcflow("validate", tmp_path / "minimal.yaml").returncode == 0


def test_init_lists_its_templates(tmp_path: Path) -> None:
    listing = hpcflow("init")
    assert listing.returncode == 0
    names = [line.split()[0] for line in listing.stdout.splitlines()]
    assert names == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
    unknown = hpcflow("init", "unett", tmp_path / "x")
    assert unknown.returncode == 2
    assert unknown.stderr == f"unett: there is no such template; there are\n{listing.stdout}"
    assert not (tmp_path / "x").exists()


def test_init_where_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert hpcflow("init", "unet").returncode == 2
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        result = hpcflow("init", "unet", target)
        assert result.returncode == 2, result
        assert "Traceback" not in result.stderr
