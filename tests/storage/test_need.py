"""A run that does not fit is refused with the numbers, before anything is queued."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from commands import hpcflow
from hpcflow.experiment.schema import Model
from hpcflow.training.models.size import checkpoint_bytes, weights

CONFIG = """\
name: big
storage: {runs: RUNS}
training:
  data: {phantom: {}, crop: [32, 32, 32]}
  model: {filters: 512, depth: 5}
"""


@pytest.mark.train
@pytest.mark.parametrize(
    "model",
    [
        Model(filters=4, depth=3),
        Model(name="unet3d", filters=3, depth=2, batch_norm=False),
        Model(filters=5, depth=4, upsampling="nearest", dropout=0.2),
    ],
)
def test_the_sizes_are_those_of_the_models(model: Model) -> None:
    from hpcflow.training.models.unet import build_unet

    shape = (16, 16, 16, 2) if model.name == "unet3d" else (16, 16, 2)
    made, _ = build_unet(model, shape)

    def number(variables: list[object]) -> int:
        return sum(int(v.shape.num_elements()) for v in variables)  # type: ignore[attr-defined]

    assert weights(model, 2) == (number(made.trainable_variables), number(made.variables))


def test_a_run_that_does_not_fit_ends_with_2_and_the_numbers(tmp_path: Path) -> None:
    """On a real file system of 1 MiB."""
    (tmp_path / "c.yaml").write_text(CONFIG.replace("RUNS", str(tmp_path / "small")))
    (tmp_path / "small").mkdir()
    command = [Path(sys.executable).with_name("hpcflow"), "submit", tmp_path / "c.yaml", "--engine", "local"]
    mount = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, tmp_path / "small", *command],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    each = checkpoint_bytes(Model(filters=512, depth=5), 1)
    assert each > 2**30
    assert f"{tmp_path / 'c.yaml'}:2:" in done.stderr and "storage.runs: the run needs" in done.stderr
    assert "free space in " in done.stderr and "1.0 MiB" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_run_that_fits_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG.replace("RUNS", str(tmp_path / "runs")).replace("512", "4"))
    done = hpcflow("submit", tmp_path / "c.yaml", "--engine", "local", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert shutil.disk_usage(tmp_path).free > 0
