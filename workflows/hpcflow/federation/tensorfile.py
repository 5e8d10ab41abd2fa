"""A safetensors file as byte ranges: its header, checked to the last byte, and positioned reads of its tensors.

The format is 8 bytes of header length (little endian), a JSON header ``{name: {dtype, shape, data_offsets}}``
with free text under ``__metadata__``, and the tensors' bytes without holes
(https://huggingface.co/docs/safetensors, "Format"). The library's reader maps the whole file, which counts as
memory and turns a file that shrinks under the reader into SIGBUS; its writer orders the metadata at random, so
that equal contents are not equal bytes. Hence a reader and a writer of headers here. Nothing is unpickled and no
number of the header is used before it was checked against the size of the file.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hpcflow.storage.publish import Entry, publishing

# Largest header that is read, as the safetensors library has it.
MAX_HEADER = 100_000_000
METADATA = "__metadata__"

# BF16 has no NumPy type: its bits are kept as uint16.
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}  # fmt: skip
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_ITEMSIZES = {name: dtype.itemsize for name, dtype in DTYPES.items()}
_NAME_OF = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}


class BadFile(ValueError):
    """What is wrong with a file, in words that follow "it"."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a header: ``begin`` and ``end`` count bytes from the start of the data, ``itemsize`` is the bytes of
    an element and ``count`` the number of elements.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int
    itemsize: int
    count: int

    @classmethod
    def at(cls, begin: int, dtype: str, shape: tuple[int, ...]) -> Tensor:
        """The entry of a tensor that begins at ``begin``."""
        itemsize, count = _ITEMSIZES[dtype], math.prod(shape)
        return cls(dtype, shape, begin, begin + count * itemsize, itemsize, count)


@dataclass(frozen=True)
class Header:
    """Tensors in the order of their bytes, the free text, and where the data starts in the file (bytes)."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    start: int

    @cached_property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.start + max((tensor.end for tensor in self.tensors.values()), default=0)


def plan_header(
    shapes: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> tuple[Header, bytes]:
    """Lay out tensors (name, dtype, shape) as the library does, widest types first and then by name; the bytes
    of the header are a function of the arguments alone.
    """
    ordered = sorted(shapes, key=lambda item: (-DTYPES[item[1]].itemsize, item[1], item[0]))
    tensors: dict[str, Tensor] = {}
    at = 0
    for name, dtype, shape in ordered:
        tensors[name] = Tensor.at(at, dtype, shape)
        at = tensors[name].end
    table: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    for name, tensor in tensors.items():
        offsets = [tensor.begin, tensor.end]
        table[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return Header(tensors, dict(metadata), 8 + len(text)), struct.pack("<Q", len(text)) + text


def dtype_name(array: NDArray[Any]) -> str:
    """The format's name of an array's type. Raises BadFile for one that it has not."""
    if array.dtype.name == "bfloat16":  # of the package ml_dtypes, which TensorFlow brings
        return "BF16"
    try:
        return _NAME_OF[array.dtype.newbyteorder("<")]
    except KeyError:
        raise BadFile(f"holds an array of {array.dtype}, for which safetensors has no type") from None


def publish_tensors(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> Entry:
    """Publish ``arrays`` as a safetensors file; equal contents are equal bytes. The manifest's entry for it."""
    header, text = plan_header(((n, dtype_name(a), a.shape) for n, a in arrays.items()), metadata)
    with publishing(path) as publication:
        publication.write(text)
        for name in header.tensors:
            publication.write(stored(arrays[name]))
    return publication.entry


def stored(array: NDArray[Any]) -> memoryview:
    """The bytes of an array as the format keeps them: little endian, in C order."""
    name = dtype_name(array)
    plain = array if name == "BF16" else array.astype(DTYPES[name], copy=False)
    return np.ascontiguousarray(plain).reshape(-1).view("u1").data


def parse_header(text: bytes, data_size: int) -> Header:
    """Read the JSON of a header whose file has ``data_size`` bytes of data. Raises BadFile."""
    try:
        metadata, table = _split(text.decode())
        tensors, late = _tensors(table, data_size)
    except BadFile:
        raise
    except (ValueError, RecursionError):
        raise BadFile("has a header that is no JSON") from None
    if metadata is not None and late is not None:
        raise BadFile("has a header that says a key twice")
    said = late if metadata is None else metadata
    said = {} if said is None else said
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise BadFile("has metadata that is not text")
    refuse_surrogates(said)
    refuse_surrogates(said.values())
    return Header(tensors, said, 8 + len(text))


def refuse_surrogates(texts: Iterable[str]) -> None:
    """Raise BadFile for half a character, which JSON can escape and nothing can print or write again."""
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        raise BadFile("has text that is no Unicode") from None


def _split(text: str) -> tuple[Any, str]:
    """The metadata, where they come first as in all files of the library, and the table of the rest as JSON."""
    beginning = f'{{"{METADATA}":'
    if not text.startswith(beginning):
        return None, text
    at = len(beginning)
    while text[at : at + 1].isspace():  # as other writers' JSON may have it; raw_decode takes none
        at += 1
    metadata, end = json.JSONDecoder(object_pairs_hook=_no_twins).raw_decode(text, at)
    rest = text[end:].lstrip()
    return metadata, "{" + (rest[1:] if rest.startswith(",") else rest)


@lru_cache(maxsize=4)
def _tensors(text: str, data_size: int) -> tuple[Mapping[str, Tensor], Any]:
    """The table of tensors, checked, and the metadata where they stand in it.

    The updates of a round have one table: it is read once, and nobody changes it.
    """
    table = json.loads(text, object_pairs_hook=_no_twins)
    if not isinstance(table, dict):
        raise BadFile("has a header that is no table")
    late = table.pop(METADATA, None)
    refuse_surrogates(table)
    tensors = sorted(((name, _tensor(name, entry)) for name, entry in table.items()), key=_place)
    at = 0
    for name, tensor in tensors:
        if tensor.begin != at:
            raise BadFile(f"has a hole or an overlap before the tensor {name!r}")
        at = tensor.end
    if at > data_size:
        raise BadFile(f"is truncated: {data_size} bytes of data, and its header says {at}")
    if at < data_size:
        raise BadFile(f"is too long: {data_size} bytes of data, and its header says {at}")
    return dict(tensors), late


def _place(item: tuple[str, Tensor]) -> tuple[int, int, str]:
    return item[1].begin, item[1].end, item[0]


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise BadFile("has a header that says a key twice")
    return table


def _tensor(name: str, entry: Any) -> Tensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
    except (TypeError, KeyError, ValueError):
        raise BadFile(f"has a damaged entry for the tensor {name!r}") from None
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise BadFile(f"has the tensor {name!r} of the type {dtype!r}, which is not supported")
    if any(type(number) is not int or number < 0 for number in numbers):
        raise BadFile(f"has a damaged entry for the tensor {name!r}")
    tensor = Tensor.at(begin, dtype, tuple(shape))
    if tensor.end != end:
        raise BadFile(f"has another number of bytes for the tensor {name!r} than its shape says")
    return tensor


class TensorFile:
    """An open safetensors file. Reads are positioned, so that threads may share it. Close it, or use `with`."""

    def __init__(self, path: Path, *, links: bool = True) -> None:
        """Raises OSError, and BadFile where the file is no whole safetensors file; without ``links`` also where it is
        a symbolic link: whoever writes an update must not have another file read in its place by one who may read more.
        """
        self.path = path
        # O_NONBLOCK: a pipe in the place of a file must not hold the job.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._descriptor = os.open(path, flags if links else flags | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno == errno.ELOOP and not links:
                raise BadFile("is no regular file") from None
            raise
        try:
            self.header = self._read_header()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> Header:
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadFile("is no regular file")
        size = status.st_size
        head = os.pread(self._descriptor, 8, 0)
        if len(head) < 8:
            raise BadFile(f"is no safetensors file: it has {size} bytes")
        (length,) = struct.unpack("<Q", head)
        if length > MAX_HEADER:
            raise BadFile("is no safetensors file, or its header is damaged")
        if 8 + length > size:
            raise BadFile(f"is truncated: {size} bytes, and its header alone has {length}")
        text = bytearray(length)
        self._fill(memoryview(text), 8)
        return parse_header(bytes(text), size - 8 - length)

    def read_into(self, buffer: NDArray[Any], begin: int) -> None:
        """Fill a contiguous ``buffer`` with the bytes of the data from ``begin`` on. Raises BadFile or OSError."""
        self._fill(buffer.view("u1").data, self.header.start + begin)

    def place(self, begin: int) -> tuple[int, int]:
        """The descriptor, and where in the file the byte ``begin`` of the data is."""
        return self._descriptor, self.header.start + begin

    def read_bytes(self, view: memoryview, begin: int) -> None:
        """The same into a buffer of bytes."""
        self._fill(view, self.header.start + begin)

    def _fill(self, view: memoryview, at: int) -> None:
        done = os.preadv(self._descriptor, [view], at)
        while done < len(view):
            got = os.preadv(self._descriptor, [view[done:]], at + done)
            if got == 0:
                raise BadFile("has become shorter while it was read")
            done += got

    def read(self, name: str) -> NDArray[Any]:
        """One tensor, whole; BF16 as its bits in uint16."""
        tensor = self.header.tensors[name]
        array = np.empty(tensor.shape, DTYPES[tensor.dtype])
        if tensor.count:
            self.read_into(array.reshape(-1), tensor.begin)
        return array

    def close(self) -> None:
        """Close the file; twice does no harm."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
