"""Update files: what is written is read back, by the safetensors library too; what is damaged is refused."""

import contextlib
import errno
import json
import os
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from federation.files import equal, merge, read, tensors, write
from hpcflow.errors import InputError
from hpcflow.federation.aggregation import TooFew
from hpcflow.federation.numbers import narrow, widen
from hpcflow.federation.tensorfile import BadFile, TensorFile, parse_header, publish_tensors
from hpcflow.federation.update import Expected, Update, UpdateInfo, complaint, damage, delta, write_update


def test_round_trip(tmp_path: Path) -> None:
    info = UpdateInfo(
        Fraction(321), 'a "b" $(c)\n', 7, "ab" * 32, "delta", 12.5, {"loss": 0.25}, extra={"note": "x"}
    )
    path = tmp_path / "u '$x.safetensors"
    entry = write_update(path, tensors(1), info)
    assert entry.size == path.stat().st_size
    assert equal(dict(load_file(path)), tensors(1)), "the library reads what we write"
    with Update(path) as update:
        said = update.info
        assert damage(update) is None
        wanted = Expected(
            update.header,
            base=frozenset({"ab" * 32}),
            round=frozenset({7}),
            collaborator='a "b" $(c)\n',
            kind="delta",
            digest=True,
        )
        assert complaint(update, wanted) is None
    assert (said.num_samples, said.collaborator, said.round, said.base) == (321, 'a "b" $(c)\n', 7, "ab" * 32)
    assert (said.steps, said.metrics, said.extra) == (12.5, {"loss": 0.25}, {"note": "x"})
    assert said.code and said.sha256


def test_equal_contents_are_equal_bytes(tmp_path: Path) -> None:
    one = write(tmp_path / "1", "a", tensors(1), 5, extra={"z": "1", "a": "2"})
    two = write(tmp_path / "2", "a", dict(reversed(tensors(1).items())), 5, extra={"a": "2", "z": "1"})
    assert one.read_bytes() == two.read_bytes()


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    kinds = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")
    arrays = {kind: np.arange(6).reshape(2, 3).astype(kind) for kind in kinds}
    save_file(arrays, tmp_path / "x.safetensors", {"num_samples": "3"})
    assert equal(read(tmp_path / "x.safetensors"), arrays)


def corrupt(path: Path, at: int, byte: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        file.write(byte)


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def nan(path: Path) -> None:
    data = dict(load_file(path))
    data["dense/bias"][3] = np.nan
    save_file(data, path, {"num_samples": "1"})


def infinite(path: Path) -> None:
    data = dict(load_file(path))
    data["dense/kernel"][300, 3] = -np.inf
    save_file(data, path, {"num_samples": "1"})


def change(path: Path, name: str, array: Any) -> None:
    data = {**load_file(path), name: array}
    save_file(data, path, {"num_samples": "1"})


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE = {
    "truncated: ": lambda path: cut(path, path.stat().st_size - 5),
    "truncated: 100 bytes": lambda path: cut(path, 100),
    "has 7 bytes": lambda path: cut(path, 7),
    "has 0 bytes": lambda path: cut(path, 0),
    "too long": lambda path: path.write_bytes(path.read_bytes() + b"\0" * 9),
    "its digest": lambda path: corrupt(path, -2, b"\x7e"),
    "its header is damaged": lambda path: corrupt(path, 0, b"\xff" * 8),
    "no JSON": lambda path: corrupt(path, 8, b"?"),
    "holds NaN": nan,
    "holds NaN or an infinity": infinite,
    "has the shape [330]": lambda path: change(path, "dense/bias", np.zeros(330, "f4")),
    "has the type F64": lambda path: change(path, "dense/bias", np.zeros(331, "f8")),
    "has the tensor 'more'": lambda path: change(path, "more", np.zeros(3, "f4")),
    "lacks the tensor": lambda path: save_file({"scale": np.zeros((), "f4")}, path, {"num_samples": "1"}),
    "has num_samples '-3'": lambda path: save_file(tensors(0), path, {"num_samples": "-3"}),
    "has num_samples 'nan'": lambda path: save_file(tensors(0), path, {"num_samples": "nan"}),
    "has num_samples '1e999'": lambda path: save_file(tensors(0), path, {"num_samples": "1e999"}),
    "does not say its num_samples": lambda path: save_file(tensors(0), path),
    "of the format 'other'": lambda path: save_file(
        tensors(0), path, {"format": "other", "num_samples": "1"}
    ),
    "has num_samples '1e300'": lambda path: save_file(tensors(0), path, {"num_samples": "1e300"}),
    "has steps '5e-324'": lambda path: save_file(tensors(0), path, {"num_samples": "1", "steps": "5e-324"}),
    "has metrics that are not finite": lambda path: save_file(
        tensors(0), path, {"num_samples": "1", "metrics": '{"a": 1' + 400 * "0" + "}"}
    ),
    "metrics that are not finite": lambda path: save_file(
        tensors(0), path, {"num_samples": "1", "metrics": '{"a": 1e999}'}
    ),
    "that are not finite": lambda path: save_file(
        tensors(0), path, {"num_samples": "1", "metrics": '{"a": NaN}'}
    ),
    "has text that is no Unicode": lambda path: save_file(
        tensors(0), path, {"num_samples": "1", "metrics": '{"\\ud800": 1}'}
    ),
    "no JSON object": lambda path: save_file(tensors(0), path, {"num_samples": "1", "metrics": "[1]"}),
    "is missing": lambda path: path.unlink(),
    "is no regular file": lambda path: (path.unlink(), path.mkdir()),
    "no regular file": pipe,
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_damaged_is_refused_and_the_others_are_merged(tmp_path: Path, reason: str) -> None:
    good = [write(tmp_path, f"g{index}", tensors(index), index + 1) for index in range(3)]
    merge(good, "fedavg", tmp_path / "without")
    bad = write(tmp_path, "bad", tensors(9))
    DAMAGE[reason](bad)
    done = merge([bad, *good], "fedavg", tmp_path / "with", minimum=3)
    assert [refusal.name for refusal in done.refused] == ["bad"]
    assert reason in str(done.refused[0])
    assert done.accepted == ("g0", "g1", "g2")
    assert (tmp_path / "with").read_bytes() == (tmp_path / "without").read_bytes()
    with pytest.raises(TooFew, match="3 of 4 updates can be used, and 4 are needed") as caught:
        merge([bad, *good], "fedavg", tmp_path / "more", minimum=4)
    assert len(caught.value.refused) == 1
    assert not (tmp_path / "more").exists()
    assert not list(tmp_path.glob(".*")), "nothing half made is left"


def test_an_update_that_was_replaced_under_the_reader_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS says ESTALE where a name led to a file that another one has replaced."""
    paths = [write(tmp_path, f"u{index}", tensors(index)) for index in range(3)]
    real, stale = os.open, [paths[1]]

    def opened(path: Any, *arguments: Any, **named: Any) -> int:
        if path in stale:
            stale.remove(path)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", opened)
    assert merge(paths, "fedavg", tmp_path / "out").accepted == ("u0", "u1", "u2")
    assert not stale


@pytest.mark.parametrize("strategy", ["median", "krum", "geometricmedian", "bulyan"])
def test_nan_is_refused_by_every_kernel(tmp_path: Path, strategy: str) -> None:
    good = [write(tmp_path, f"g{index}", tensors(index)) for index in range(4)]
    merge(good, strategy, tmp_path / "without")
    bad = write(tmp_path, "bad", tensors(9))
    infinite(bad)
    done = merge([bad, *good], strategy, tmp_path / "with", minimum=3)
    assert [refusal.name for refusal in done.refused] == ["bad"]
    assert (tmp_path / "with").read_bytes() == (tmp_path / "without").read_bytes()


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        (Expected(round=frozenset({8})), "is of the round 7, and 8 is aggregated"),
        (Expected(collaborator="other"), "is signed 'me', and 'other' was asked"),
        (
            Expected(base=frozenset({"cd" * 32})),
            "made from another base model (abababababab instead of cdcdcdcd",
        ),
        (Expected(kind="weights"), "holds delta where weights is expected"),
    ],
)
def test_wrong_origin(tmp_path: Path, expected: Expected, reason: str) -> None:
    path = write(tmp_path, "me", tensors(1), round=7, base="ab" * 32)
    with Update(path) as update:
        assert reason in str(complaint(update, expected))


def test_the_writer_refuses_what_a_reader_would(tmp_path: Path) -> None:
    bad = {"a": np.array([1, np.nan], "f4")}
    with pytest.raises(BadFile, match="NaN"):
        write_update(tmp_path / "x", bad, UpdateInfo(Fraction(1)))
    with pytest.raises(BadFile, match="number of samples"):
        write_update(tmp_path / "x", tensors(0), UpdateInfo())
    with pytest.raises(BadFile, match="safetensors has no type"):
        write_update(tmp_path / "x", {"a": np.array(["text"])}, UpdateInfo(Fraction(1)))
    with pytest.raises(BadFile, match="other tensors"):
        delta({"a": np.zeros(2)}, {"b": np.zeros(2)})
    assert not list(tmp_path.iterdir())


@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_header_gets_past_the_parser_with_another_error(text: bytes, size: int) -> None:
    for header in (text, json.dumps({"a": text.decode("latin-1")}).encode()):
        with contextlib.suppress(BadFile):
            parse_header(header, size)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(1, 9).flatmap(lambda digit: st.integers(1, 5000).map(lambda zeros: f"{digit}{zeros * '0'}"))
    | st.floats()
    | st.text(st.characters(), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = (
    "num_samples",
    "collaborator",
    "round",
    "base",
    "kind",
    "steps",
    "metrics",
    "code",
    "sha256",
    "format",
    "more",
)


@given(st.dictionaries(st.sampled_from(KEYS), JSON | st.integers(1, 3000).map(lambda n: n * "["), max_size=4))
def test_metadata_of_any_kind_are_read_or_refused(said: dict[str, Any]) -> None:
    """As text of JSON, and as JSON within the header's own JSON: what is accepted can be printed and written again."""
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in said.items()
    }
    texts |= {"metrics": f'{{"a": {texts["metrics"]}}}'} if "metrics" in texts else {}
    for metadata in (texts, said):
        with contextlib.suppress(BadFile):
            header = parse_header(json.dumps({"__metadata__": metadata}).encode(), 0)
            info = UpdateInfo.from_metadata(header.metadata)
            assert all(np.isfinite(value) for value in info.metrics.values())
            again = UpdateInfo.from_metadata(info.to_metadata())
            assert (again.metrics, again.round, again.extra) == (info.metrics, info.round, info.extra)
            json.dumps(info.to_metadata(), ensure_ascii=False).encode()


ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BOOL", "X", 3]),
        "shape": st.lists(st.integers(-1, 1 << 70) | st.booleans() | st.none(), max_size=3),
        "data_offsets": st.lists(st.integers(-5, 1 << 70), max_size=3),
    }
)


@given(st.dictionaries(st.text(max_size=3), ENTRY, max_size=3), st.integers(0, 64))
def test_a_header_that_is_accepted_covers_the_data_exactly(table: dict[str, Any], size: int) -> None:
    try:
        header = parse_header(json.dumps(table).encode(), size)
    except BadFile:
        return
    assert sum(tensor.end - tensor.begin for tensor in header.tensors.values()) == size


def test_a_header_may_not_say_a_name_twice(tmp_path: Path) -> None:
    entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    text = f'{{"a":{entry},"a":{entry}}}'.encode()
    path = tmp_path / "twice"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 4)
    with pytest.raises(BadFile, match="says a key twice"):
        TensorFile(path)


def test_numbers_of_every_type_survive_the_way_through_float64() -> None:
    draw = np.random.default_rng(0)
    for dtype, array in {
        "F32": draw.standard_normal(1000).astype("f4"),
        "F16": draw.standard_normal(1000).astype("f2"),
        "BF16": draw.integers(0, 0x7F80, 1000).astype("u2"),
        "I32": np.array([-(2**31), -1, 0, 2**31 - 1], "i4"),
        "U8": np.arange(256, dtype="u1"),
        "BOOL": np.array([True, False]),
    }.items():
        wide = np.empty(array.shape)
        widen(array, dtype, wide)
        assert np.array_equal(narrow(wide, dtype), array), dtype
    assert narrow(np.array([1e30, -1e30]), "I64").tolist() == [2**63 - 1024, -(2**63)]
    assert narrow(np.array([2.5, 3.5, 300.0, -1.0]), "U8").tolist() == [2, 4, 255, 0]
    with pytest.raises(FloatingPointError):
        narrow(np.array([1e39]), "F32")


def test_a_bfloat16_model(tmp_path: Path) -> None:
    arrays = {"a": np.arange(-300, 300, dtype="f4").astype(ml_dtypes.bfloat16)}
    paths = []
    for index in range(3):
        paths.append(
            write(tmp_path, f"u{index}", {"a": (arrays["a"] * (index + 1)).astype(ml_dtypes.bfloat16)})
        )
    merge(paths, "fedavg", tmp_path / "out")
    exact = np.mean([read(path)["a"].view(ml_dtypes.bfloat16).astype("f8") for path in paths], axis=0)
    assert np.array_equal(read(tmp_path / "out")["a"], exact.astype(ml_dtypes.bfloat16).view("u2"))


def test_a_damaged_base_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, "u", tensors(0))
    publish_tensors(tmp_path / "base", tensors(1), {})
    cut(tmp_path / "base", 200)
    with pytest.raises(Exception, match=r"base cannot be used as the base: it is truncated"):
        merge([path], "fedavg", tmp_path / "out", base=tmp_path / "base")
    absolute = write(tmp_path, "w", tensors(0), kind="weights", steps=3)
    with pytest.raises(InputError, match="some updates hold weights and others deltas"):
        merge([path, absolute], "fedavg", tmp_path / "out")
    with pytest.raises(InputError, match="fednova needs deltas"):
        merge([absolute], "fednova", tmp_path / "out")


def test_metadata_may_stand_anywhere_but_once() -> None:
    entry = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    metadata = b'"__metadata__":{"num_samples":"3"}'
    for text in (metadata + b"," + entry, entry + b"," + metadata):
        header = parse_header(b"{" + text + b"}  ", 4)
        assert header.metadata == {"num_samples": "3"}
        assert list(header.tensors) == ["a"]
    assert parse_header(b"{" + metadata + b"}", 0).tensors == {}
    with pytest.raises(BadFile, match="says a key twice"):
        parse_header(b"{" + metadata + b"," + entry + b"," + metadata + b"}", 4)
