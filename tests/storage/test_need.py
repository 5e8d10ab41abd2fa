"""A run that does not fit is refused with the numbers, before anything is queued."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from commands import hpcflow
from hpcflow.experiment.schema import Model
from hpcflow.storage import mounts
from hpcflow.storage.publish import publish_manifest
from hpcflow.storage.space import human
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


def submit_on_a_small_file_system(
    tmp_path: Path, config: str, *more: str, size: str = "1m"
) -> "subprocess.CompletedProcess[str]":
    """A real file system of that size for the runs, in a namespace of its own."""
    (tmp_path / "c.yaml").write_text(config.replace("RUNS", str(tmp_path / "small")))
    (tmp_path / "small").mkdir(exist_ok=True)
    command = [Path(sys.executable).with_name("hpcflow"), "submit", tmp_path / "c.yaml", "--engine", "local"]
    mount = f'mount -t tmpfs -o size={size} none "$0" && exec "$@"'
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, tmp_path / "small", *command, *more],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_run_that_does_not_fit_ends_with_2_and_the_numbers(tmp_path: Path, more: tuple[str, ...]) -> None:
    done = submit_on_a_small_file_system(tmp_path, CONFIG, *more)
    assert done.returncode == 2, done.stderr
    each = checkpoint_bytes(Model(filters=512, depth=5), 1)
    assert each > 2**30
    assert f"{tmp_path / 'c.yaml'}:2:" in done.stderr and "storage.runs: the run needs" in done.stderr
    assert "free space in " in done.stderr and "1.0 MiB" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_sweep_needs_room_for_all_its_trials(tmp_path: Path) -> None:
    swept = CONFIG.replace("512", "4") + "sweep: {matrix: {training.model.filters: [4, 512]}, repeats: 2}\n"
    done = submit_on_a_small_file_system(tmp_path, swept, size="8g")
    assert done.returncode == 2, done.stderr
    sizes = [checkpoint_bytes(Model(filters=filters, depth=5), 1) for filters in (4, 512)]
    assert (
        f"(4 x 4 checkpoints of at most {human(sizes[1])}: {human(2 * 4 * sum(sizes))}; packed" in done.stderr
    )


FEDERATED = """\
name: rounds
flow: federated
storage: {runs: RUNS}
training:
  data: {phantom: {subjects: 4}, crop: [32, 32, 32]}
  model: {filters: 16, depth: 4}
federation: {rounds: 3, collaborators: 2, strategy: STRATEGY}
"""


@pytest.mark.parametrize(
    ("strategy", "models"), [("fedavg", 1 + 3 * (1 + 2)), ("scaffold", 1 + 3 * (1 + 1 + 6))]
)
def test_the_rounds_of_a_federation_are_counted(tmp_path: Path, strategy: str, models: int) -> None:
    done = submit_on_a_small_file_system(tmp_path, FEDERATED.replace("STRATEGY", strategy))
    assert done.returncode == 2, done.stderr
    size = 4 * weights(Model(filters=16, depth=4), 1)[1]
    assert f"(3 rounds of 2 update(s) of {human(size)}: {human(models * size)}; packed data:" in done.stderr


def test_packed_data_is_counted_until_it_is_packed(tmp_path: Path) -> None:
    config = CONFIG.replace("512", "2").replace("phantom: {}", "phantom: {subjects: 9}")
    (tmp_path / "c.yaml").write_text(config.replace("RUNS", str(tmp_path / "runs")))

    def said() -> str:
        return hpcflow("submit", tmp_path / "c.yaml", "--engine", "local", "--dry-run").stderr

    assert f"packed data: {human(9 * 32**3 * 3)})" in said()
    folder = tmp_path / "runs" / ".cache" / "packed-0"
    folder.mkdir(parents=True)
    publish_manifest(folder, {}, {"crop": [32, 32, 32], "modalities": ["FLAIR"], "subjects": [*"abcdefghi"]})
    assert "packed data" not in said()


def test_a_run_that_fits_says_how_much_it_needs(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG.replace("RUNS", str(tmp_path / "runs")).replace("512", "4"))
    done = hpcflow("submit", tmp_path / "c.yaml", "--engine", "local", "--dry-run")
    assert done.returncode == 0, done.stderr
    size = checkpoint_bytes(Model(filters=4, depth=5), 1)
    assert f"the run needs {human(4 * size + 12 * 32**3 * 3)} (1 x 4 checkpoints of" in done.stderr
    done = hpcflow("submit", tmp_path / "c.yaml", "--engine", "local", "--dry-run", "--json")
    (need,) = json.loads(done.stdout)["needs"]
    assert need["bytes"] == 4 * size + 12 * 32**3 * 3 < need["free"]


def test_what_the_profile_says_of_file_systems_reaches_the_jobs(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG.replace("RUNS", str(tmp_path / "runs")))
    said = {"$WORK/it's": {"type": "nfs", "attribute_cache": 3}, "/lustre": {"stripes": False}}
    (tmp_path / "site.yaml").write_text(json.dumps({"name": "here", "file_systems": said}))
    done = hpcflow("render", tmp_path / "c.yaml", "--site", tmp_path / "site.yaml", "--engine", "local")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(f"export {mounts.VARIABLE}=")]
    assert len(lines) == 2, "of packing and of training"
    for line in lines:
        (word,) = shlex.split(line.partition("=")[2])
        assert json.loads(word) == said
    assert f"-x {mounts.VARIABLE}" in done.stdout, "to the ranks of other nodes as well"
    (tmp_path / "site.yaml").write_text(json.dumps({"file_systems": {"/x": {"attribute_cache": "long"}}}))
    done = hpcflow("render", tmp_path / "c.yaml", "--site", tmp_path / "site.yaml", "--engine", "local")
    assert done.returncode == 2 and "file_systems./x.attribute_cache" in done.stderr
