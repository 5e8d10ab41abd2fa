"""Lustre's stripes by a fake lfs that records its calls: the one fake here, for want of a Lustre."""

import json
import os
from pathlib import Path

import pytest

from federation.federations import sets, submit
from hpcflow.jobs.job import Allocation
from hpcflow.storage import mounts, space, stripes
from hpcflow.storage.mounts import Mount
from hpcflow.storage.publish import read_manifest
from hpcflow.storage.stripes import GIB, MIB
from hpcflow.training.prepare import main
from training.training_runs import make_run

LUSTRE = (Mount("/", "lustre", "mds:/fs"),)


@pytest.fixture
def lfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts `lfs` on the PATH; the file it writes its arguments to."""
    tools, calls = tmp_path / "bin", tmp_path / "calls"
    tools.mkdir()
    fake = tools / "lfs"
    fake.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >>"{calls}"\n'
        f'cat "{tmp_path}/answer$3" "{tmp_path}/answer-$1" 2>/dev/null\nexit "${{LFS:-0}}"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return calls


@pytest.mark.parametrize(
    ("size", "readers", "stripes_"),
    [
        (1000, 100, 1),
        (100 * MIB, 1, 1),
        (100 * MIB, 64, 4),
        (2 * GIB, 1, 4),
        (100 * GIB, 1, 8),
        (2 * GIB, 64, 8),
        (100 * GIB, 64, -1),
    ],
)
def test_stripes_follow_size_and_readers(size: int, readers: int, stripes_: int) -> None:
    assert stripes.count(size, readers) == stripes_


def test_lfs_is_called_once_for_a_folder_on_lustre(lfs: Path, tmp_path: Path) -> None:
    done = stripes.prepare(tmp_path, 100 * GIB, 64, table=LUSTRE)
    assert done.count == -1
    assert lfs.read_text() == f"setstripe --stripe-count -1 {tmp_path}\n"


def test_nothing_is_done_where_it_may_not_or_cannot(
    lfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stripes.prepare(tmp_path, GIB, 1, "off", LUSTRE).count is None
    nfs = stripes.prepare(tmp_path, GIB, 1, table=(Mount("/", "nfs4", "server:/x"),))
    assert nfs.why == "nfs4 has no stripes"
    said = mounts.over({str(tmp_path): {"stripes": False}}, LUSTRE)
    assert stripes.prepare(tmp_path, GIB, 1, table=said).why == "the site's profile allows none there"
    assert not lfs.exists()
    monkeypatch.setenv("LFS", "1")
    assert stripes.prepare(tmp_path, GIB, 1, table=LUSTRE).why.startswith("lfs refused")
    monkeypatch.setenv("PATH", "/nowhere")
    assert stripes.prepare(tmp_path, GIB, 1, table=LUSTRE).why == "there is no lfs here"


@pytest.mark.parametrize(("allocation", "count"), [(Allocation(), 1), (Allocation(2, 3), 4)])
def test_a_packed_cache_is_laid_out_for_the_ranks_before_it_is_written(
    lfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allocation: Allocation, count: int
) -> None:
    monkeypatch.setenv(mounts.VARIABLE, json.dumps({str(tmp_path): {"type": "lustre"}}))
    data = {"phantom": {"subjects": 16, "shape": [32, 32, 32]}, "crop": [32, 32, 32]}  # 1 MiB
    run, _ = make_run(tmp_path / "run", {"data": data}, allocation=allocation)
    assert main(["--cache", str(tmp_path / "cache"), str(run), "train", "0"]) == 0
    calls = lfs.read_text().splitlines()
    assert len(calls) == 1 and calls[0].startswith(f"setstripe --stripe-count {count} ")
    (path,) = (tmp_path / "cache").glob("packed-*")
    manifest = read_manifest(path)
    assert manifest is not None and manifest.about["stripes"] == count


def test_aggregates_are_laid_out_for_who_begins_with_them_and_that_is_recorded(
    lfs: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(json.dumps({"file_systems": {str(tmp_path): {"type": "lustre"}}}))
    more = ("--set", "training.model.parameters=400000", *sets(execution="inprocess", rounds=2))
    run = submit(tmp_path / "x", "--engine", "local", "--site", str(site), *more)
    calls = [line for line in lfs.read_text().splitlines() if line.startswith("setstripe")]
    assert calls == [f"setstripe --stripe-count 4 {run}/rounds/{number:04d}" for number in (1, 2)]
    said = json.loads((run / "rounds/0002/times/aggregate.json").read_text())["stripes"]
    assert (said["count"], said["why"]) == (
        4,
        f"{(run / 'rounds/0001/model.safetensors').stat().st_size} bytes a file, 3 reader(s)",
    )


def test_the_least_of_all_quotas_counts(lfs: Path, tmp_path: Path) -> None:
    answers = {"-u": "900  0  1000  -  5  0  25  -", "-g": "0 0 99 - 5 0 0 -", "-p": "2 0 99 - 1 0 9 -"}
    for flag, text in answers.items():
        (tmp_path / f"answer{flag}").write_text(f"{tmp_path}\n   {text}\n")
    (tmp_path / "answer-project").write_text(f"  77 P {tmp_path}\n")
    found = space.room(tmp_path, LUSTRE)
    assert (found.bytes, found.whose) == (97 * 1024, "the quota of project 77")
    assert (found.files, found.whose_files) == (8, "the quota of project 77")
    group = tmp_path.stat().st_gid if tmp_path.stat().st_mode & 0o2000 else os.getegid()
    assert lfs.read_text().splitlines() == [
        f"project -d {tmp_path}",
        f"quota -q -u {os.getuid()} {tmp_path}",
        f"quota -q -g {group} {tmp_path}",
        f"quota -q -p 77 {tmp_path}",
    ]
    (tmp_path / "answer-project").write_text(f"   0 - {tmp_path}\n")
    assert space.room(tmp_path, LUSTRE).whose == "your group's quota"


def test_elsewhere_the_command_quota_is_asked(lfs: Path, tmp_path: Path) -> None:
    (lfs.parent / "bin" / "lfs").rename(lfs.parent / "bin" / "quota")
    (tmp_path / "answer-u").write_text("")
    (tmp_path / "answer--w").write_text(
        "Disk quotas for user me (uid 1000): \n"
        "     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace\n"
        "server:/home    500*    400     600  1700000000      17       0       0       0\n"
    )
    found = space.room(tmp_path, (Mount("/", "nfs4", "server:/home"),))
    assert (found.bytes, found.whose) == (100 * 1024, "your quota")
    assert lfs.read_text().splitlines()[0] == "-w -p -u -f /"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/lustre 900 0 1000 - 5 0 25 -", (100 * 1024, 20)),
        ("/lustre 1100* 1000 1200 6d 5 0 0 -", (100 * 1024, None)),
        ("/lus tre 8/x [900] 0 0 - 5 0 0 -", (None, None)),
        ("/lus 8 900 0 1000 - 5* 3 9 6d\n", (100 * 1024, 4)),
        (
            "/lustre 900 0 1000 - 5 0 25 -\nuid 1 is using default block quota setting\n"
            "uid 1 is using default file quota setting\n",
            (100 * 1024, 20),
        ),
        ("Disk quotas are off", (None, None)),
        ("", (None, None)),
    ],
)
def test_what_lfs_quota_says(text: str, left: tuple[int | None, int | None]) -> None:
    assert space.parse_quota(text) == left
