"""What the section `container` refuses, with its place."""

from pathlib import Path

import pytest

from commands import hpcflow

HEAD = "name: x\ntraining: {data: {phantom: {}}}\n"


@pytest.mark.parametrize(
    ("text", "key", "sentence"),
    [
        ("{image: 'docker://debian'}", "image", "every rank would fetch docker:// for itself"),
        ("{image: ' '}", "image", "names no image"),
        ("{}", "image", "this key is missing"),
        ("{image: a.sif, binds: ['/a:b']}", "binds[0]", "`b` is no absolute path in the image"),
        ("{image: a.sif, binds: ['/a:/b:x']}", "binds[0]", "is no bind"),
        ("{image: a.sif, flags: [--bind=/a]}", "flags[0]", "say --bind as container.binds"),
        ("{image: a.sif, flags: ['-e']}", "flags[0]", "say -e as container.cleanenv"),
        ("{image: a.sif, flags: [nv]}", "flags[0]", "`nv` is no flag"),
        ("{image: a.sif, mpi_prefix: /opt/mpi}", "mpi_prefix", "nothing is bound (say mpi: bind)"),
        ("{image: a.sif, env: {PYTHONPATH: /x}}", "env", "are hpcflow's"),
        ("{image: a.sif, env: {OMPI_COMM_WORLD_RANK: 1}}", "env", "may not be set here"),
        ("{image: a.sif, nvidia: true}", "nvidia", "there is no such key"),
    ],
)
def test_bad_input_has_a_place(tmp_path: Path, text: str, key: str, sentence: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"{HEAD}container: {text}\n")
    done = hpcflow("validate", path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()[:1]
    assert line.startswith(f"{path}:3:") and f"container.{key}" in line.replace(".0", "[0]"), line
    assert sentence in line
