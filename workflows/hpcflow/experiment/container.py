"""The section `container`: the image that a job's programs run in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from hpcflow.experiment.fields import (
    Complaint,
    Line,
    PathText,
    Section,
    Value,
    Variable,
    YesNo,
    refuse,
    refuse_all,
)

# What hpcflow writes itself, by the key that says it.
_KEY_OF_FLAG = {
    "--bind": "container.binds",
    "-B": "container.binds",
    "--mount": "container.binds",
    "--cleanenv": "container.cleanenv",
    "-e": "container.cleanenv",
    "--nv": "container.nv",
    "--env": "container.env",
    "--env-file": "container.env",
}


def _flag(flag: str) -> str:
    name = flag.partition("=")[0]
    if not re.fullmatch(r"--?[a-zA-Z][a-z-]*", name):
        refuse(f"`{flag}` is no flag of `apptainer exec` (for example --rocm, or --overlay=FILE)")
    if name in _KEY_OF_FLAG:
        refuse(f"say {name} as {_KEY_OF_FLAG[name]}")
    return flag


def _image(text: str) -> str:
    if not text.strip():
        refuse("names no image (for example unet.sif)")
    scheme = re.match(r"([a-z-]+)://", text)
    if scheme:
        refuse(
            f"every rank would fetch {scheme[1]}:// for itself (fetch it once: apptainer pull image.sif {text})"
        )
    return text


def _bind(text: str) -> str:
    parts = text.split(":")
    if len(parts) > 3 or not all(parts) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        refuse(f"`{text}` is no bind (SOURCE, SOURCE:TARGET, or SOURCE:TARGET:ro)")
    if len(parts) > 1 and not parts[1].startswith("/"):
        refuse(f"`{parts[1]}` is no absolute path in the image")
    return text


class Container(Section):
    """The image that jobs run in. Data, runs, cache and hpcflow's own code are bound without being named."""

    image: Annotated[PathText, AfterValidator(_image)] = Field(
        description="SIF file or image directory. Paths may hold $NAME."
    )
    binds: tuple[Annotated[PathText, AfterValidator(_bind)], ...] = Field(
        (), description="Further folders: SOURCE, SOURCE:TARGET or SOURCE:TARGET:ro."
    )
    env: dict[Variable, Value] = Field(
        {}, description="Variables inside; they win over the image's own and survive cleanenv."
    )
    cleanenv: YesNo = Field(
        False, description="Keep the job's environment out, but for launcher's and hpcflow's variables."
    )
    nv: YesNo = Field(False, description="The node's NVIDIA driver and GPUs (--nv).")
    flags: tuple[Annotated[Line, AfterValidator(_flag)], ...] = Field(
        (), description="Further flags of `apptainer exec`, one an item."
    )
    mpi: Literal["hybrid", "bind"] = Field(
        "hybrid", description="hybrid: the image's own MPI, of the launcher's family; bind: the node's MPI."
    )
    mpi_prefix: PathText | None = Field(
        None, description="mpi: bind: folder of the node's MPI; left out: that of hpcflow's environment."
    )
    python: Annotated[Line, Field(min_length=1)] = Field(
        "python3", description="Python in the image that has TensorFlow and Horovod."
    )
    runtime: Literal["auto", "apptainer", "singularity"] = Field(
        "auto", description="The command; auto is whichever the node has."
    )
    check: YesNo = Field(True, description="Whether `submit` checks the image first.")

    @model_validator(mode="after")
    def _one_model(self) -> Container:
        refuse_all(self._complaints())
        return self

    def _complaints(self) -> Iterator[Complaint]:
        if self.mpi_prefix and self.mpi != "bind":
            yield ("mpi_prefix",), "says where the MPI to bind is, and nothing is bound (say mpi: bind)"
        if {"PYTHONPATH", "PYTHONNOUSERSITE"} & set(self.env):
            yield ("env",), "PYTHONPATH and PYTHONNOUSERSITE are hpcflow's: its code is bound by them"
