"""Update files: what a collaborator hands over after a round.

A safetensors file of tensors under the model's own names, deltas against the round's base model (``kind`` delta)
or the weights themselves (``kind`` weights). The metadata says who made it from what:

    format        hpcflow-update/1
    kind          delta | weights
    collaborator  name                        round  number, from 1
    base          SHA-256 of the base model's file, in hexadecimal
    num_samples   weight in the mean          steps  local optimizer steps (FedNova), a positive number
    metrics       JSON object of numbers      code   version of hpcflow
    sha256        digest of the tensors' bytes

Files of others need ``num_samples`` alone. What an update says is used after :func:`complaint` and
:func:`damage` found nothing; the text of a refusal completes "the update ...".
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

import hpcflow
from hpcflow.federation.statistics import trained
from hpcflow.federation.tensorfile import (
    DTYPES,
    FLOATS,
    BadFile,
    Header,
    TensorFile,
    dtype_name,
    plan_header,
    publish_tensors,
    refuse_surrogates,
    stored,
)
from hpcflow.storage.publish import Entry

FORMAT = "hpcflow-update/1"
# Of what aggregation writes: by hand it can be aggregated again, in a hierarchy.
AGGREGATE_FORMAT = "hpcflow-aggregate/1"
Kind = Literal["delta", "weights"]
# Tensors of SCAFFOLD's control variates stand under the names of the weights with this before them.
CONTROL = "control/"
_READ = 1 << 20
# Numbers of samples and of steps lie between these: their sums, products and quotients are finite then.
_LEAST, _MOST = Fraction(1, 10**12), Fraction(10**18)
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class UpdateInfo:
    """What an update says of itself. Of a foreign file most is None."""

    num_samples: Fraction | None = None
    collaborator: str | None = None
    round: int | None = None
    base: str | None = None
    kind: Kind = "delta"
    steps: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    code: str | None = None
    sha256: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """As text for a safetensors header."""
        said: dict[str, str | None] = {
            "num_samples": None if self.num_samples is None else _number(self.num_samples),
            "collaborator": self.collaborator,
            "round": None if self.round is None else str(self.round),
            "base": self.base,
            "kind": self.kind,
            "steps": None if self.steps is None else repr(self.steps),
            "metrics": json.dumps(dict(self.metrics), sort_keys=True),
            "code": self.code,
            "sha256": self.sha256,
        }
        known = {key: value for key, value in said.items() if value is not None}
        return {**self.extra, "format": FORMAT, **known}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> UpdateInfo:
        """Read a header's text. Raises BadFile for a value that is not what its key promises."""
        rest = dict(metadata)
        if rest.get("format", FORMAT) not in (FORMAT, AGGREGATE_FORMAT):
            raise BadFile(f"is of the format {rest['format'][:60]!r} and no update")
        rest.pop("format", None)
        kind = rest.pop("kind", "delta")
        if kind not in ("delta", "weights"):
            raise BadFile(f"is of the kind {kind[:60]!r} (delta or weights)")
        metrics = _metrics(rest.pop("metrics", "{}"))
        steps = _positive("steps", rest.pop("steps", None))
        return cls(
            num_samples=_positive("num_samples", rest.pop("num_samples", None)),
            collaborator=rest.pop("collaborator", None),
            round=_natural("round", rest.pop("round", None)),
            base=_digest("base", rest.pop("base", None)),
            kind="delta" if kind == "delta" else "weights",
            steps=None if steps is None else float(steps),
            metrics=metrics,
            code=rest.pop("code", None),
            sha256=_digest("sha256", rest.pop("sha256", None)),
            extra=rest,
        )


def _number(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else repr(float(value))


def _positive(key: str, text: str | None) -> Fraction | None:
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,18}", text):
        exact = Fraction(int(text))
    else:
        try:
            exact = Fraction(float(text))
        except (ValueError, OverflowError):
            raise BadFile(f"has {key} {text[:60]!r}, which is no finite number") from None
    if exact <= 0:
        raise BadFile(f"has {key} {text[:60]!r}, which is not positive")
    if not _LEAST <= exact <= _MOST:
        raise BadFile(f"has {key} {text[:60]!r}, which is not between 1e-12 and 1e18")
    return exact


def _natural(key: str, text: str | None) -> int | None:
    if text is not None and not re.fullmatch(r"[0-9]{1,9}", text):
        raise BadFile(f"has {key} {text[:60]!r}, which is no number")
    return None if text is None else int(text)


def _digest(key: str, text: str | None) -> str | None:
    if text is not None and not _DIGEST.fullmatch(text):
        raise BadFile(f"has a {key} that is no SHA-256")
    return text


def _metrics(text: str) -> dict[str, float]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict) or any(type(value) not in (int, float) for value in table.values()):
        raise BadFile("has metrics that are no JSON object of numbers")
    try:
        metrics = {name: float(value) for name, value in table.items()}
    except OverflowError:  # a whole number of some hundred digits
        metrics = {"": math.inf}
    if not all(map(math.isfinite, metrics.values())):
        raise BadFile("has metrics that are not finite")
    refuse_surrogates(metrics)
    return metrics


class Update:
    """An open update: its file, positioned reads, and what it says of itself."""

    def __init__(self, path: Path, *, links: bool = True) -> None:
        """Raises OSError where it cannot be read and BadFile where it is no whole update (see TensorFile)."""
        self.file = TensorFile(path, links=links)
        try:
            self.info = UpdateInfo.from_metadata(self.file.header.metadata)
        except BaseException:
            self.file.close()
            raise

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path

    @property
    def header(self) -> Header:
        """Its tensors."""
        return self.file.header

    @property
    def name(self) -> str:
        """The collaborator, or the file's name without its suffix where it does not say one."""
        return self.info.collaborator or self.path.stem

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Expected:
    """What a round accepts; None: not looked at. ``model`` is the header of the base model."""

    model: Header | None = None
    base: frozenset[str] | None = None
    round: frozenset[int] | None = None
    collaborator: str | None = None
    kind: Kind | None = None
    control: bool = False
    digest: bool = False


def complaint(update: Update, expected: Expected) -> str | None:
    """Why an update cannot be used, by its header alone, or None."""
    info = update.info
    if expected.collaborator is not None and info.collaborator != expected.collaborator:
        return f"is signed {info.collaborator!r}, and {expected.collaborator!r} was asked"
    if expected.round is not None and info.round not in expected.round:
        return f"is of the round {info.round}, and {_some(expected.round)} is aggregated"
    if expected.base is not None and info.base not in expected.base:
        return f"was made from another base model ({str(info.base)[:12]} instead of {_some(expected.base)})"
    if expected.kind is not None and info.kind != expected.kind:
        return f"holds {info.kind} where {expected.kind} is expected"
    if expected.digest and info.sha256 is None:
        return "does not say the digest of its tensors"
    if expected.model is not None:
        return mismatch(update.header, expected.model, control=expected.control)
    return None


def _some(values: frozenset[int] | frozenset[str]) -> str:
    return ", ".join(sorted(str(value)[:12] for value in values))


def mismatch(header: Header, model: Header, *, control: bool = False) -> str | None:
    """How the tensors of ``header`` differ from the model's in name, type or shape, or None. With ``control``
    each that is trained has a twin under CONTROL; without, such twins are not looked at.
    """
    if header.tensors is model.tensors and not control:
        return None
    wanted = {name: tensor for name, tensor in model.tensors.items() if not name.startswith(CONTROL)}
    if control:
        wanted |= {CONTROL + name: tensor for name, tensor in trained(wanted).items()}
    for name, tensor in wanted.items():
        ours = header.tensors.get(name)
        if ours is None:
            return f"lacks the tensor {name!r}"
        if ours.shape != tensor.shape:
            return f"has the shape {list(ours.shape)} for {name!r} instead of {list(tensor.shape)}"
        if ours.dtype != tensor.dtype:
            return f"has the type {ours.dtype} for {name!r} instead of {tensor.dtype}"
    more = sorted(
        name for name in header.tensors.keys() - wanted.keys() if control or not name.startswith(CONTROL)
    )
    return f"has the tensor {more[0]!r}, which the model has not" if more else None


def damage(update: Update) -> str | None:
    """Read an update whole and say what is wrong with its bytes: the digest, a NaN or an infinity; or None.

    Holds one MiB of it at a time.
    """
    digest, wrong = hashlib.sha256(), None
    buffer = np.empty(_READ, "u1")
    for name, tensor in update.header.tensors.items():
        for at in range(tensor.begin, tensor.end, _READ):
            part = buffer[: min(_READ, tensor.end - at)]
            update.file.read_into(part, at)
            digest.update(part.data)
            if wrong is None and not finite(part.view(DTYPES[tensor.dtype]), tensor.dtype):
                wrong = f"holds NaN or an infinity in {name!r}"
    if update.info.sha256 not in (None, digest.hexdigest()):
        return "is corrupt: its digest is not the one that it was written with"
    return wrong


def finite(raw: NDArray[Any], dtype: str) -> bool:
    """Whether elements as stored hold neither NaN nor an infinity."""
    if dtype == "BF16":
        return not bool(np.any((raw & 0x7F80) == 0x7F80))
    return dtype not in FLOATS or bool(np.isfinite(raw).all())


def write_update(
    path: Path,
    tensors: Mapping[str, NDArray[Any]],
    info: UpdateInfo,
    control: Mapping[str, NDArray[Any]] | None = None,
) -> Entry:
    """Publish an update, with its digest and the version of this code, and return its manifest entry.

    ``control`` holds SCAFFOLD's change of the control variate, under the names of ``tensors``. Raises BadFile
    for what would be refused later: values that are not finite, or no number of samples.
    """
    arrays = {**tensors, **{CONTROL + name: array for name, array in (control or {}).items()}}
    if len(arrays) != len(tensors) + len(control or {}):
        raise BadFile(f"has a tensor whose name begins with {CONTROL}, which is kept for SCAFFOLD")
    if info.num_samples is None or info.num_samples <= 0:
        raise BadFile("has no number of samples")
    if info.steps is not None and not (math.isfinite(info.steps) and info.steps > 0):
        raise BadFile(f"has {info.steps} local steps")
    for name, array in arrays.items():
        kind = dtype_name(array)
        if not finite(array.view("u2") if kind == "BF16" else array, kind):
            raise BadFile(f"holds NaN or an infinity in {name!r}")
    header, _ = plan_header(((name, dtype_name(a), a.shape) for name, a in arrays.items()), {})
    digest = hashlib.sha256()
    for name in header.tensors:
        digest.update(stored(arrays[name]))
    metadata = info.to_metadata() | {"sha256": digest.hexdigest(), "code": hpcflow.__version__}
    return publish_tensors(path, arrays, metadata)


def delta(after: Mapping[str, NDArray[Any]], base: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """``after`` less ``base``, tensor by tensor, in the tensors' own type. Raises BadFile for other names."""
    if after.keys() != base.keys():
        raise BadFile("has other tensors than its base model")
    return {name: np.asarray(after[name] - base[name], base[name].dtype) for name in base}
