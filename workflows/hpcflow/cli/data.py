"""hpcflow data: make data sets, and share them among collaborators."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hpcflow.cli import partition
from hpcflow.errors import InputError

app = typer.Typer(
    help="Make data sets, and share them among collaborators.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def data() -> None:
    """Make data sets, and share them among collaborators."""


app.command("partition")(partition.command)


def parse_shape(text: str) -> tuple[int, int, int]:
    """Read "X,Y,Z" or "XxYxZ": three positive numbers of voxels. Raises InputError otherwise."""
    parts = text.replace("x", ",").split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--shape: `{text}` is no shape (three numbers of voxels, for example 64,64,48)")
    return int(parts[0]), int(parts[1]), int(parts[2])


def parse_radius(text: str) -> tuple[float, float]:
    """Read "A,B": two numbers. Raises InputError otherwise."""
    try:
        smallest, largest = map(float, text.split(","))
    except ValueError:
        message = f"--tumour-radius: `{text}` is no range (two fractions, for example 0.14,0.26)"
        raise InputError(message) from None
    return smallest, largest


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to make; it must not exist, or be empty.")],
    subjects: Annotated[int, typer.Option(min=1, help="Number of phantom subjects.")] = 12,
    shape: Annotated[str, typer.Option(help="Voxels along x, y and z.", metavar="X,Y,Z")] = "64,64,48",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 0,
    contrast: Annotated[
        float, typer.Option(min=0, max=2, help="Of tumours against white matter: 1 is usual, 0 is none.")
    ] = 1.0,
    tumour_radius: Annotated[
        str,
        typer.Option(
            help="Smallest and largest mean radius of a tumour, as fractions of the shortest edge.",
            metavar="A,B",
        ),
    ] = "0.14,0.26",
    tumour_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the subjects that have a tumour.")
    ] = 1.0,
) -> None:
    """Write PHANTOM brains with tumours (made up, no patients) in the Decathlon layout of Task01_BrainTumour.

    The folder appears whole, when the last file is written, and its path is printed.
    """
    from hpcflow.storage.publish import publishing_directory
    from hpcflow.training.data.phantom import PhantomSpec, write_phantoms

    spec = PhantomSpec(
        shape=parse_shape(shape),
        contrast=contrast,
        tumour_radius=parse_radius(tumour_radius),
        tumour_rate=tumour_rate,
    )
    if out.is_symlink() or (out.exists() and not out.is_dir()) or (out.is_dir() and any(out.iterdir())):
        raise InputError(f"{out} is there already (name a folder that does not exist)")

    def progress(done: int, of: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{of} phantoms", end="\n" if done == of else "", file=sys.stderr, flush=True)

    try:
        with publishing_directory(out) as temporary:
            write_phantoms(temporary, subjects, spec, seed, progress)
    except OSError as error:
        raise InputError(f"{out} cannot be made: {error.filename}: {error.strerror}") from None
    print(out)
