"""An epoch's input from packed data against NIfTI files that are read again each epoch.

    .venv/bin/python benchmarks/packed_data.py [--subjects 24] [--shape 96] [--epochs 3]

Reading alone, no training: what the input of an epoch costs one rank. PHANTOM images, made for this.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from hpcflow.training.data.cache import build_packed, open_packed
from hpcflow.training.data.decathlon import open_decathlon
from hpcflow.training.data.phantom import PhantomSpec, write_phantoms
from hpcflow.training.data.preprocess import preprocess


def main() -> None:
    """Print seconds an epoch for both, and what packing cost once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=24)
    parser.add_argument("--shape", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    crop = (options.shape,) * 3
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        data.mkdir()
        write_phantoms(data, options.subjects, PhantomSpec(shape=crop), 0)
        dataset = open_decathlon(data)
        begun = time.perf_counter()
        path, _ = build_packed(Path(folder, "cache"), dataset, (0,), crop)
        print(f"packing, once: {time.perf_counter() - begun:.2f} s for {options.subjects} volumes of {crop}")
        for epoch in range(1, options.epochs + 1):
            begun = time.perf_counter()
            total = 0.0
            for subject in dataset.subjects:
                image, _ = preprocess(*dataset.load(subject, (0,)), crop)
                total += float(np.asarray(image, np.float32).sum())
            nifti = time.perf_counter() - begun
            begun = time.perf_counter()
            packed = open_packed(path)
            same = sum(float(np.asarray(image, np.float32).sum()) for image in packed.images)
            from_cache = time.perf_counter() - begun
            assert abs(same - total) <= 1e-3 * max(1.0, abs(total))
            print(
                f"epoch {epoch}: NIfTI {nifti:.2f} s, packed {from_cache:.2f} s: {nifti / from_cache:.0f} x",
                flush=True,
            )


if __name__ == "__main__":
    main()
