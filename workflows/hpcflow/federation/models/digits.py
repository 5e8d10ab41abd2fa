"""A small CNN, or an MLP, on the 1,797 handwritten digits of scikit-learn; NumPy only.

For research on algorithms and for measuring what a round costs beside training: an epoch takes milliseconds.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcflow.federation.seeds import generator

Weights = dict[str, NDArray[np.float32]]
Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
CLASSES, SIDE = 10, 8


@dataclass(frozen=True)
class Digits:
    """Images float32 (n, 8, 8) from 0 to 1 and labels int64 (n,) from 0 to 9."""

    images: Floats
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Digits:
        """Those at ``indices``, in that order."""
        return Digits(self.images[indices], self.labels[indices])


@cache
def load_digits() -> Digits:
    """All of them, in the order of the file. See data/README.md for where it is from."""
    packed = resources.files("hpcflow.federation").joinpath("data/digits.csv.gz").read_bytes()
    rows = np.array([line.split(b",") for line in gzip.decompress(packed).split()]).astype(np.int64)
    images = (rows[:, :-1].reshape(-1, SIDE, SIDE) / 16.0).astype(np.float32)
    labels = np.ascontiguousarray(rows[:, -1])
    images.flags.writeable = labels.flags.writeable = False
    return Digits(images, labels)


def split_digits(held: int = 360, seed: int = 0) -> tuple[Digits, Digits]:
    """Training and hold-out digits; ``held`` of them, drawn with ``seed``, are held out."""
    digits = load_digits()
    order = generator(seed, "digits", "hold-out").permutation(len(digits))
    return digits.take(np.sort(order[held:])), digits.take(np.sort(order[:held]))


@dataclass(frozen=True)
class DigitsModel:
    """cnn: convolution 3 x 3 of ``width`` maps, ReLU, maximum over 2 x 2, dense. mlp: dense ``width``, ReLU, dense.

    Weights are named ``conv/kernel`` (9, width), ``hidden/kernel`` (64, width), ``out/kernel`` and so on, float32.
    """

    kind: Literal["cnn", "mlp"] = "cnn"
    width: int = 16

    def initial(self, seed: int) -> Weights:
        """He's normal weights (2015) and zero biases, a function of the seed."""
        draw = generator(seed, "digits", "initial", self.kind, self.width)
        name, inputs = ("conv", 9) if self.kind == "cnn" else ("hidden", SIDE * SIDE)
        features = self.width * (9 if self.kind == "cnn" else 1)  # 6 x 6 positions, pooled by 2
        return {
            f"{name}/kernel": _normal(draw, inputs, self.width),
            f"{name}/bias": np.zeros(self.width, np.float32),
            "out/kernel": _normal(draw, features, CLASSES),
            "out/bias": np.zeros(CLASSES, np.float32),
        }

    def gradients(self, weights: Mapping[str, Floats], batch: Digits) -> tuple[float, Weights]:
        """Mean cross-entropy over a batch, and its gradient by each weight."""
        found = self._forward(weights, batch.images)
        probabilities, loss = _softmax(found.logits, batch.labels)
        rows = np.arange(len(batch))
        probabilities[rows, batch.labels] -= 1.0
        slope = probabilities / np.float32(len(batch))
        back = (slope @ weights["out/kernel"].T).reshape(found.features.shape)
        gradients = {
            "out/kernel": found.features.reshape(len(batch), -1).T @ slope,
            "out/bias": slope.sum(axis=0),
        }
        if self.kind == "mlp":
            back = back * (found.features > 0)
            flat = batch.images.reshape(len(batch), -1)
            return loss, gradients | {"hidden/kernel": flat.T @ back, "hidden/bias": back.sum(axis=0)}
        # To the first of the largest of each 2 x 2, and only where it is positive.
        spread = np.zeros((*back.shape, 4), np.float32)
        np.put_along_axis(spread, found.winners[..., None], (back * (found.features > 0))[..., None], axis=-1)
        spread = _unpool(spread).reshape(-1, self.width)
        gradients |= {"conv/kernel": found.patches.T @ spread, "conv/bias": spread.sum(axis=0)}
        return loss, gradients

    def evaluate(self, weights: Mapping[str, Floats], data: Digits) -> dict[str, float]:
        """Mean ``loss`` and ``accuracy`` (0 to 1)."""
        logits = self._forward(weights, data.images).logits
        _, loss = _softmax(logits, data.labels)
        return {"loss": loss, "accuracy": float(np.mean(np.argmax(logits, axis=1) == data.labels))}

    def _forward(self, weights: Mapping[str, Floats], images: Floats) -> _Forward:
        number = len(images)
        if self.kind == "mlp":
            hidden = images.reshape(number, -1) @ weights["hidden/kernel"] + weights["hidden/bias"]
            features = np.maximum(hidden, 0)
            empty = np.zeros(0, np.int64)
            return _Forward(features @ weights["out/kernel"] + weights["out/bias"], features, features, empty)
        shifts = [images[:, i : i + 6, j : j + 6] for i in range(3) for j in range(3)]
        patches = np.stack(shifts, axis=-1).reshape(-1, 9)
        maps = (patches @ weights["conv/kernel"] + weights["conv/bias"]).reshape(number, 6, 6, self.width)
        grouped = maps.reshape(number, 3, 2, 3, 2, self.width).transpose(0, 1, 3, 5, 2, 4)
        grouped = grouped.reshape(number, 3, 3, self.width, 4)
        winners = np.argmax(grouped, axis=-1)
        features = np.maximum(np.take_along_axis(grouped, winners[..., None], axis=-1)[..., 0], 0)
        logits = features.reshape(number, -1) @ weights["out/kernel"] + weights["out/bias"]
        return _Forward(logits, features, patches, winners)


@dataclass(frozen=True)
class _Forward:
    logits: Floats
    features: Floats
    patches: Floats
    winners: Labels


def _normal(draw: np.random.Generator, inputs: int, outputs: int) -> Floats:
    scale = np.sqrt(2.0 / inputs)
    drawn: Floats = (draw.standard_normal((inputs, outputs)) * scale).astype(np.float32)
    return drawn


def _softmax(logits: Floats, labels: Labels) -> tuple[Floats, float]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    sums = powers.sum(axis=1, keepdims=True)
    picked = shifted[np.arange(len(labels)), labels] - np.log(sums[:, 0])
    probabilities: Floats = powers / sums
    return probabilities, float(-picked.mean(dtype=np.float64))


def _unpool(spread: Floats) -> Floats:
    number, _, _, width, _ = spread.shape
    grouped = spread.reshape(number, 3, 3, width, 2, 2).transpose(0, 1, 4, 2, 5, 3)
    whole: Floats = grouped.reshape(number, 6, 6, width)  # a copy: its axes have moved
    return whole
