"""Phantoms, the Decathlon layout, the packed cache, batches."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from training_runs import SMALL, make_run, run_module

from hpcflow.errors import InputError, RunError
from hpcflow.experiment.schema import Data, Phantom
from hpcflow.storage.publish import publishing_directory
from hpcflow.training.data.batches import Augmentation, Samples, prefetch
from hpcflow.training.data.cache import build_packed, cache_key, open_packed, packed_path
from hpcflow.training.data.decathlon import open_decathlon
from hpcflow.training.data.phantom import MODALITIES, PhantomSpec, phantom, write_phantoms
from hpcflow.training.data.preprocess import crop_centre, normalise
from hpcflow.training.data.source import source_folder
from hpcflow.training.prepare import prepare

SPEC = PhantomSpec(shape=(20, 22, 18))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three PHANTOM subjects."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, 3, SPEC, seed=5)
    return folder


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil, in a folder with a difficult name."""
    return Path(shutil.copytree(made, tmp_path / 'it\'s $(a) "set"'))


def change(folder: Path, **values: object) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# Phantoms


def test_a_phantom_is_a_brain_with_a_nested_tumour() -> None:
    for index in range(6):
        image, labels = phantom(PhantomSpec(), seed=1, index=index)
        assert image.shape == (64, 64, 48, 4) and image.dtype == np.int16
        assert sorted(np.unique(labels)) == [0, 1, 2, 3]
        brain = (image > 0).all(axis=-1)
        assert 0.1 < brain.mean() < 0.5
        assert not (labels > 0)[~brain].any()
        flair, t1gd = (image[..., MODALITIES.index(name)].astype(float) for name in ("FLAIR", "t1gd"))
        healthy = brain & (labels == 0)
        assert flair[labels == 1].mean() > 1.2 * flair[healthy].mean(), "edema is bright in FLAIR"
        assert t1gd[labels == 3].mean() > 1.2 * t1gd[healthy].mean(), "the rim takes up contrast agent"


def test_phantoms_depend_on_seed_and_index_alone() -> None:
    first, _ = phantom(SPEC, 5, 1)
    assert (first == phantom(SPEC, 5, 1)[0]).all()
    assert (first != phantom(SPEC, 5, 2)[0]).any()
    assert (first != phantom(SPEC, 6, 1)[0]).any()
    assert not phantom(PhantomSpec(shape=(16, 16, 16), tumour_rate=0), 0, 0)[1].any()


def test_institutions_differ_in_contrast_and_tumours() -> None:
    """By what a configuration says of its phantoms; what it does not say gives the set that was always made."""
    usual = source_folder(Data(phantom=Phantom()), "", Path())
    assert usual == source_folder(Data(phantom=Phantom(contrast=1.0)), "", Path())
    # Of before there was a choice.
    assert usual.name == "phantom-" + hashlib.sha256(b"[1, 12, [48, 48, 32], 0]").hexdigest()[:32]
    others = [Phantom(contrast=0.5), Phantom(tumour_radius=(0.1, 0.12)), Phantom(tumour_rate=0.5)]
    assert len({usual, *(source_folder(Data(phantom=said), "", Path()) for said in others)}) == 4

    def voxels(**said: Any) -> list[int]:
        return [int((phantom(replace(SPEC, **said), 5, index)[1] > 0).sum()) for index in range(6)]

    assert max(voxels(tumour_radius=(0.10, 0.14))) < min(voxels(tumour_radius=(0.25, 0.30)))
    assert [size > 0 for size in voxels(tumour_rate=0.5)] == [False, True] * 3
    assert sum(size > 0 for size in voxels(tumour_rate=1 / 3)) == 2

    def edge(contrast: float) -> float:
        image, labels = phantom(replace(SPEC, contrast=contrast, noise=0.01, bias=0.0), 5, 1)
        flair = image[..., MODALITIES.index("FLAIR")].astype(float)
        return float(flair[labels == 1].mean() / flair[(labels == 0) & (flair > 0)].mean())

    assert edge(0.3) < edge(1.0) < edge(1.5)


def test_the_usual_phantoms_are_the_same_bytes_as_ever(tmp_path: Path) -> None:
    write_phantoms(tmp_path, 1, PhantomSpec(shape=(16, 16, 16)), 0)
    said = json.loads((tmp_path / "dataset.json").read_text())["phantom"]
    assert said == {"shape": [16, 16, 16], "seed": 0, "contrast": 1.0, "noise": 0.06}


def test_files_are_the_same_bytes_each_time_and_say_what_they_are(made: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path, 3, SPEC, seed=5)
    files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert len(files) == 7
    assert all((made / name).read_bytes() == (tmp_path / name).read_bytes() for name in files)
    text = json.loads((made / "dataset.json").read_text())
    assert "PHANTOM" in text["name"] and "PHANTOM" in text["description"]
    image = nibabel.load(made / "imagesTr" / "PHANTOM_001.nii.gz")
    assert b"phantom" in bytes(image.header["descrip"])
    assert image.shape == (20, 22, 18, 4)


# The Decathlon layout


def test_a_data_set_is_read_as_written(made: Path) -> None:
    dataset = open_decathlon(made)
    assert dataset.phantom and len(dataset.subjects) == 3
    assert dataset.channels(["t1gd", 0, "flair"]) == (2, 0, 0)
    assert dataset.target("tumor_core") == (2, 3) and dataset.target((1,)) == (1,)
    image, labels = dataset.load(dataset.subjects[1], (3, 0))
    wanted, wanted_labels = phantom(SPEC, 5, 1)
    assert (image == wanted[..., [3, 0]]).all() and (labels == wanted_labels).all()


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def resave(name: str, cut: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        image = nibabel.load(folder / name)
        nibabel.save(nibabel.Nifti1Image(cut(np.asarray(image.dataobj)), np.eye(4)), folder / name)

    return spoil


IMAGE, LABEL = "imagesTr/PHANTOM_002.nii.gz", "labelsTr/PHANTOM_002.nii.gz"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: shutil.rmtree(folder), "is not a directory"),
        (drop("dataset.json"), r"has no dataset.json"),
        (lambda folder: (folder / "dataset.json").write_text("{"), "dataset.json cannot be read"),
        (lambda folder: change(folder, training=3), "is no Decathlon dataset.json: it needs modality"),
        (lambda folder: change(folder, training=[]), "its list of training images is empty"),
        (lambda folder: change(folder, training=[{"image": "../x", "label": "y"}]), "leaves the folder"),
        (lambda folder: change(folder, labels={"0": "a", "1": "b"}), "there is no label 2"),
        (lambda folder: change(folder, labels={"0": "", "1": "", "2": "", "3": "", "300": ""}), "0 and 255"),
        (lambda folder: change(folder, modality={"0": "CT"}), r"no modality 'FLAIR' .* \(it has 0 CT\)"),
        (drop(IMAGE), "PHANTOM_002.nii.gz is missing, and dataset.json lists it"),
        (drop(LABEL), "labelsTr/PHANTOM_002.nii.gz is missing"),
        (lambda folder: (folder / IMAGE).write_bytes(b"rubbish!"), "cannot be read as NIfTI"),
        (
            lambda folder: (folder / IMAGE).write_bytes((folder / IMAGE).read_bytes()[:900]),
            "cannot be read as",
        ),
        (resave(IMAGE, lambda a: a[..., :2]), r"its shape is \(20, 22, 18, 2\), .* promises \(x, y, z, 4\)"),
        (resave(LABEL, lambda a: a[1:]), r"its shape is \(19, 22, 18\), and its image's is \(20, 22, 18\)"),
        (resave(LABEL, lambda a: a + np.uint8(9)), "holds label 9, which dataset.json does not name"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    dataset: Path, tmp_path: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(dataset)
    with pytest.raises(InputError, match=sentence) as error:
        prepare(Data(crop=(16, 16, 16)), str(dataset), tmp_path / "cache")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache").glob("*")), "nothing half made is left"


def test_one_modality_may_be_three_dimensional(dataset: Path) -> None:
    change(dataset, modality={"0": "T1w"})
    resave(IMAGE, lambda a: a[..., 1])(dataset)
    found = open_decathlon(dataset)
    assert found.load(found.subjects[1], (0,))[0].shape == (20, 22, 18, 1)


# Preprocessing and the packed cache


def test_normalise_and_crop() -> None:
    image = np.zeros((6, 6, 6, 1), np.float32)
    image[1:5, 1:5, 1:5] = np.random.default_rng(0).normal(900, 50, (4, 4, 4, 1))
    result = normalise(image)
    inside = result[1:5, 1:5, 1:5]
    assert abs(inside.mean()) < 1e-4 and abs(inside.std() - 1) < 1e-3 and result[0].max() == 0
    assert not np.isnan(normalise(np.full((4, 4, 4, 2), 7, np.float32))).any()
    volume = np.arange(5 * 6 * 7).reshape(5, 6, 7)
    assert (crop_centre(volume, (3, 4, 7)) == volume[1:4, 1:5]).all()
    padded = crop_centre(volume, (8, 6, 7))
    assert (padded[1:6] == volume).all() and padded.sum() == volume.sum()


def test_the_cache_holds_what_preprocessing_gives(made: Path, tmp_path: Path) -> None:
    dataset = open_decathlon(made)
    path, built = build_packed(tmp_path / "c", dataset, (0, 2), (16, 12, 8))
    assert built and build_packed(tmp_path / "c", dataset, (0, 2), (16, 12, 8)) == (path, False)
    packed = open_packed(path)
    assert packed.subjects == ("PHANTOM_001", "PHANTOM_002", "PHANTOM_003") and packed.phantom
    assert packed.images.shape == (3, 8, 16, 12, 2) and packed.images.dtype == np.float16
    image, labels = dataset.load(dataset.subjects[2], (0, 2))
    wanted = crop_centre(normalise(image), (16, 12, 8))
    np.testing.assert_allclose(packed.images[2, 5], wanted[:, :, 5], atol=4e-3)
    assert (packed.labels[2, 5] == crop_centre(labels, (16, 12, 8))[:, :, 5]).all()
    assert (packed.voxels[2, 5] == np.bincount(packed.labels[2, 5].ravel(), minlength=4)).all()


def test_the_key_follows_content_and_preprocessing_not_the_folder(made: Path, dataset: Path) -> None:
    key = cache_key(open_decathlon(made), (0,), (16, 16, 16))
    assert cache_key(open_decathlon(dataset), (0,), (16, 16, 16)) == key
    assert cache_key(open_decathlon(made), (1,), (16, 16, 16)) != key
    assert cache_key(open_decathlon(made), (0,), (16, 16, 8)) != key
    shutil.copy(dataset / "labelsTr/PHANTOM_001.nii.gz", dataset / LABEL)
    assert cache_key(open_decathlon(dataset), (0,), (16, 16, 16)) != key


def test_a_damaged_cache_is_refused_and_built_anew(made: Path, tmp_path: Path) -> None:
    dataset = open_decathlon(made)
    path, _ = build_packed(tmp_path, dataset, (0,), (16, 16, 16))
    with (path / "images.npy").open("ab") as file:
        file.write(b"x")
    with pytest.raises(RunError, match=r"is damaged: images\.npy holds"):
        open_packed(path)
    assert build_packed(tmp_path, dataset, (0,), (16, 16, 16)) == (path, True)
    open_packed(path)
    with pytest.raises(RunError, match="there is no packed cache at"):
        open_packed(tmp_path / "nowhere")


def _prepare(cache: Path, start: float) -> None:
    time.sleep(max(0.0, start - time.time()))
    config = {"phantom": {"subjects": 2, "shape": [16, 16, 16]}, "crop": [16, 16, 16]}
    prepare(Data.model_validate(config), "", cache)


def test_racing_builders_both_end_well(tmp_path: Path) -> None:
    context, start = multiprocessing.get_context("fork"), time.time() + 0.3
    racers = [context.Process(target=_prepare, args=(tmp_path, start)) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0] * 4
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == ["packed", "phantom"]


@pytest.mark.parametrize("damaged", [False, True])
def test_what_another_builder_has_just_put_there_is_not_moved_aside(
    damaged: bool, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one finds nothing, or a damaged cache; before it acts on that, another has built a whole one."""
    dataset = open_decathlon(made)
    path = packed_path(tmp_path, cache_key(dataset, (0,), (16, 16, 16)))
    if damaged:
        path.mkdir(parents=True)

    def too_late(*_: object) -> None:
        monkeypatch.undo()
        build_packed(tmp_path, dataset, (0,), (16, 16, 16))
        found.append(path.stat().st_ino)

    found: list[int] = []
    monkeypatch.setattr("hpcflow.training.data.cache.remove_leftovers", too_late)
    assert build_packed(tmp_path, dataset, (0,), (16, 16, 16))[0] == path
    assert [path.stat().st_ino] == found
    open_packed(path)


def test_prepare_as_a_job_calls_it(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path / "a run's $(dir)", SMALL)
    cache = tmp_path / "the cache"
    arguments = ("--data", "", "--cache", cache, run, "train", 0)
    first, again = (run_module("hpcflow.training.prepare", *arguments) for _ in "12")
    assert first.returncode == 0, first.stderr
    assert "5 PHANTOM subjects" in first.stdout and ": packed in" in first.stdout
    assert again.returncode == 0 and ": found packed in" in again.stdout
    missing = run_module(
        "hpcflow.training.prepare", "--data", tmp_path / "x", "--cache", cache, run, "train", 0
    )
    assert (missing.returncode, missing.stderr) == (2, f"hpcflow: {tmp_path / 'x'} is not a directory\n")


def test_nothing_but_the_job_imports_tensorflow() -> None:
    code = (
        "import sys, hpcflow.training.prepare, hpcflow.training.job, hpcflow.training.checkpoint\n"
        "import hpcflow.cli.data, hpcflow.training.data.source, hpcflow.training.data.batches\n"
        "print(sorted({'tensorflow', 'tf_keras', 'horovod', 'mpi4py', 'nibabel', 'pandas'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


# Batches


@pytest.fixture(scope="module")
def samples(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Samples]:
    path, _ = build_packed(tmp_path_factory.mktemp("c"), open_decathlon(made), (0, 2), (16, 12, 8))
    return {dimensions: Samples(open_packed(path), (2, 3), dimensions) for dimensions in (2, 3)}


def test_slices_are_the_sections_of_the_volumes(samples: dict[int, Samples]) -> None:
    ones = np.ones(8, np.float32)
    slices = samples[2].batch(np.arange(8, 16), ones)
    volume = samples[3].batch(np.array([1]), ones[:1])
    assert slices.images.shape == (8, 16, 12, 2) and volume.images.shape == (1, 8, 16, 12, 2)
    assert (slices.images == volume.images[0]).all() and (slices.masks == volume.masks[0]).all()
    assert set(np.unique(slices.masks)) <= {0.0, 1.0} and slices.masks.dtype == np.float32
    shown = samples[2].of_subjects([1], with_target_only=True)
    assert (slices.masks[shown - 8].sum(axis=(1, 2, 3)) > 0).all()
    assert slices.masks.sum() == slices.masks[shown - 8].sum()
    assert samples[2].subject_of(shown).tolist() == [1] * len(shown)
    assert samples[2].of_subjects([2, 0], with_target_only=False).tolist() == [*range(8), *range(16, 24)]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_augmentation_moves_image_and_mask_together(dimensions: int) -> None:
    rng = np.random.default_rng(0)
    shape = (12, 12) if dimensions == 2 else (4, 12, 12)
    mask = (rng.random((*shape, 1)) < 0.3).astype(np.float32)
    outcomes = set()
    for seed in range(40):
        moved, moved_mask = Augmentation(flip=True, rotate90=True).apply(
            mask * 5, mask, np.random.default_rng(seed)
        )
        assert (moved == moved_mask * 5).all() and moved.shape == mask.shape
        outcomes.add(moved_mask.tobytes())
    assert len(outcomes) == 8, "the eight symmetries of a square"
    oblong = np.zeros((12, 8, 1), np.float32)
    assert {
        Augmentation(rotate90=True).apply(oblong, oblong, np.random.default_rng(s))[0].shape
        for s in range(20)
    } == {oblong.shape}
    noisy, same = Augmentation(noise=0.5).apply(mask, mask, np.random.default_rng(0))
    assert 0.3 < (noisy - mask).std() < 0.7 and same is mask


def test_a_sample_is_augmented_alike_in_whatever_batch(samples: dict[int, Samples]) -> None:
    augmentation, ones = Augmentation(True, False, 0.3), np.ones(3, np.float32)
    one = samples[2].batch(np.array([5, 6, 7]), ones, augmentation, (0, 1))
    other = samples[2].batch(np.array([7, 9, 5]), ones, augmentation, (0, 1))
    assert (one.images[0] == other.images[2]).all() and (one.images[2] == other.images[0]).all()
    assert (one.images[0] != samples[2].batch(np.array([5]), ones[:1], augmentation, (0, 2)).images[0]).any()


def test_prefetch_keeps_order_raises_and_stops() -> None:
    assert list(prefetch(range(50))) == list(range(50))

    def broken() -> object:
        yield 1
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(prefetch(broken()))
    made = []
    for item in prefetch((made.append(i) or i for i in range(1000)), depth=2):
        if item == 3:
            break
    assert len(made) < 10


def test_no_slice_with_the_target_is_an_input_error(tmp_path: Path) -> None:
    with publishing_directory(tmp_path / "healthy") as folder:
        write_phantoms(folder, 2, PhantomSpec(shape=(16, 16, 16), tumour_rate=0), 0)
    path, _ = build_packed(tmp_path, open_decathlon(tmp_path / "healthy"), (0,), (16, 16, 16))
    with pytest.raises(InputError, match="no slice of the training subjects shows the target"):
        Samples(open_packed(path), (1,), 2).of_subjects([0], with_target_only=True)
