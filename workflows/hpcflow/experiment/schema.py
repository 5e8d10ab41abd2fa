"""What an experiment may say. One class a section; the comments are the manual that `hpcflow schema` prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from hpcflow.experiment.container import Container
from hpcflow.experiment.document import shown
from hpcflow.experiment.federation import (
    FederationRules,
    Positive,
    counted,
    names_complaints,
    rule_complaints,
)
from hpcflow.experiment.fields import (
    Complaint,
    Count,
    Line,
    Memory,
    Module,
    Name,
    Natural,
    Nodes,
    Number,
    PathText,
    Ranks,
    Section,
    Text,
    Time,
    Value,
    Variable,
    Word,
    YesNo,
    refuse,
    refuse_all,
    unexpanded,
)
from hpcflow.experiment.sweep_section import Sweep

Auto = Literal["auto"]
LauncherName = Literal["auto", "openmpi", "intelmpi", "mpich", "srun", "horovodrun"]

# What hpcflow writes into the script itself: said twice, the two would contradict each other in silence.
_OWN_FLAGS = (
    "job-name nodes ntasks ntasks-per-node ntasks-per-socket cpus-per-task time output error open-mode chdir array "
    "dependency wrap parsable wait test-only kill-on-invalid-dep signal hint export export-file input overcommit "
    "ntasks-per-core ntasks-per-gpu threads-per-core cores-per-socket sockets-per-node extra-node-info "
    "gpus-per-task cpus-per-gpu"
)
OWN_FLAGS = frozenset(_OWN_FLAGS.split())
NO_JOB = frozenset(
    {"help", "usage", "version", "clusters", "quiet"}
)  # prints and ends, or hides the job from us
FLAG_OF_KEY = {
    "partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint", "exclude": "exclude",
    "reservation": "reservation", "gres": "gres", "mem": "memory", "exclusive": "exclusive", "nodelist": "nodelist",
}  # fmt: skip


def _flag(flag: str) -> str:
    name = flag.removeprefix("--").split("=", 1)[0]
    if not flag.startswith("--") or not re.fullmatch("[a-z][a-z0-9-]*", name):
        refuse(f"`{shown(flag)}` is no long flag of sbatch (for example --mail-type=END)")
    if name in NO_JOB:
        refuse(f"with --{name} there would be no job that hpcflow can follow (remove it)")
    whole = [own for own in sorted(OWN_FLAGS | {*FLAG_OF_KEY}) if own.startswith(name)]
    if whole and name not in whole:
        refuse(f"sbatch would read --{name} as --{whole[0]} (spell flags out)")
    if name in OWN_FLAGS:
        refuse(f"hpcflow writes --{name} itself (say it by its own key, see `hpcflow schema`)")
    if name in FLAG_OF_KEY:
        refuse(f"say --{name} as resources.{FLAG_OF_KEY[name]}")
    return flag


Flag = Annotated[Line, AfterValidator(_flag)]

# Keys of a section that exclude each other: a layer that says one of them unsays those of the layers below.
RANK_COUNTS = ("ranks_per_node", "ranks_per_socket", "ranks_per_numa", "ranks_per_l3", "ranks")
ALTERNATIVES = {"placement": RANK_COUNTS}
# Variables that a script gets from keys of their own.
KEY_OF_VARIABLE = {
    "OMP_NUM_THREADS": "threads.omp",
    "OMP_PROC_BIND": "threads.proc_bind",
    "OMP_PLACES": "threads.env",
    "KMP_BLOCKTIME": "threads.kmp.blocktime",
    "KMP_AFFINITY": "threads.kmp.affinity",
    "TF_NUM_INTRAOP_THREADS": "threads.intra_op",
    "TF_NUM_INTEROP_THREADS": "threads.inter_op",
}


class Resources(Section):
    """What the scheduler is asked for. Ranks and cores are said in `placement`."""

    nodes: Nodes = Field(1, description="Number of nodes.")
    time: Time = Field("01:00:00", description='Wall time limit: "HH:MM:SS", "D-HH:MM:SS", or minutes.')
    partition: Word | None = Field(None, description="Slurm partition.")
    account: Word | None = Field(None, description="Account that is charged.")
    qos: Word | None = Field(None, description="Quality of service.")
    constraint: Line | None = Field(None, description="Features that the nodes must have.")
    reservation: Word | None = Field(None, description="Reservation to run in.")
    gres: Word | None = Field(None, description="Generic resources per node, as in gpu:2.")
    exclude: Word | None = Field(None, description="Nodes not to run on, as in n[3-4].")
    nodelist: Word | None = Field(None, description="Nodes to run on.")
    memory: Memory | None = Field(
        None,
        description="Memory per node, as in 16G. Left out: the partition's default.",
    )
    exclusive: YesNo = Field(False, description="Whole nodes, shared with no other job.")
    extra: tuple[Flag, ...] = Field(
        (), description="Further sbatch flags, one an item, as in --mail-type=END."
    )


class Reserve(Section):
    """Cores left to the operating system."""

    cores: Natural = Field(0, description="How many cores no rank may use.")
    per: Literal["node", "socket"] = Field(
        "node", description="Whether the number counts per node or per socket."
    )
    at: Literal["first", "last"] = Field("first", description="Which cores: the first or the last ones.")


class Placement(Section):
    """How many ranks there are, where, and with how many cores each: the request a rank map answers."""

    ranks_per_node: Ranks | None = Field(None, description="Ranks on every node.")
    ranks_per_socket: Ranks | None = Field(None, description="Ranks on every socket (package).")
    ranks_per_numa: Ranks | None = Field(None, description="Ranks on every NUMA node.")
    ranks_per_l3: Ranks | None = Field(
        None, description="Ranks on every group of cores that share an L3 cache."
    )
    ranks: Ranks | None = Field(None, description="Ranks in total, spread evenly over the nodes.")
    cores_per_rank: Count | Auto = Field(
        "auto", description="Cores of a rank; auto shares the node or domain evenly."
    )
    smt: YesNo = Field(
        False,
        description="true gives a rank all hardware threads of its cores, false one of each.",
    )
    order: Literal["packed", "scattered"] = Field(
        "packed", description="Fill a socket first, or round robin over sockets."
    )
    reserve: Reserve = Field(Reserve(), description="Cores left to the operating system.")
    gpus_per_rank: Natural = Field(0, description="GPUs of a rank, the nearest to its cores.")
    oversubscribe: YesNo = Field(False, description="true allows more ranks than cores.")
    launcher: LauncherName = Field("auto", description="What starts the ranks.")
    launcher_version: Word | None = Field(
        None, description="Version of the launcher, when planning for another machine."
    )
    verify: Literal["fail", "warn", "off"] = Field(
        "fail", description="What a rank does that was not given its planned CPUs."
    )

    @model_validator(mode="after")
    def _one_count(self) -> Placement:
        said = [key for key in RANK_COUNTS if getattr(self, key) is not None]
        refuse_all(
            (
                (key,),
                f"the number of ranks is said by {said[0]} already (keep one of them)",
            )
            for key in said[1:]
        )
        return self


class Kmp(Section):
    """Settings of Intel's OpenMP runtime; they act on TensorFlow builds that use it."""

    blocktime: Natural | Literal["infinite"] | None = Field(
        1, description="Milliseconds a thread spins after a parallel region."
    )
    affinity: Line | None = Field("granularity=fine,compact,1,0", description="KMP_AFFINITY.")


class Threads(Section):
    """Threads of one rank. auto follows the rank's cores."""

    omp: Count | Auto = Field("auto", description="OMP_NUM_THREADS; auto is the cores of a rank.")
    proc_bind: Literal["true", "false", "close", "spread", "master"] | YesNo | None = Field(
        True, description="OMP_PROC_BIND."
    )
    kmp: Kmp = Field(Kmp(), description="Intel's OpenMP runtime.")
    intra_op: Count | Auto = Field(
        "auto",
        description="TensorFlow's threads within an operation; auto is the cores of a rank.",
    )
    inter_op: Count | Auto = Field(
        "auto", description="TensorFlow's operations at once; auto is 1 under MPI."
    )
    env: dict[Variable, Value] = Field(
        {}, description="Further thread variables, which win over the derived ones."
    )


class Storage(Section):
    """Where data is and where runs go. Paths may hold $NAME or ${NAME}, expanded where they are used."""

    data: PathText | None = Field(None, description="Folder of the data set, as the jobs see it.")
    runs: PathText = Field("runs", description="Folder of all runs, on storage that every node shares.")
    cache: PathText | None = Field(
        None,
        description="Folder of packed data; left out: .cache in the folder of runs.",
    )
    stage: Literal["none", "auto", "local", "sbcast"] = Field(
        "none",
        description="Copy packed data to the node's TMPDIR: auto decides by size, readers and file system; sbcast lets "
        "Slurm broadcast what is small.",
    )
    stripes: Literal["auto", "off"] = Field(
        "auto", description="Lustre stripes by size and readers; off where the site asks people not to."
    )


class Environment(Section):
    """What a job's shell loads before anything starts."""

    modules: tuple[Module, ...] = Field((), description="Environment modules, loaded in this order.")
    variables: dict[Variable, Value] = Field({}, description="Environment variables, set after the modules.")

    @model_validator(mode="after")
    def _no_second_meaning(self) -> Environment:
        twice = (
            (("variables", name), f"say it as {KEY_OF_VARIABLE[name]}, where hpcflow takes it from")
            for name in self.variables
            if name in KEY_OF_VARIABLE
        )
        hopes = ((("variables", *at), text) for at, text in unexpanded(self.variables))
        refuse_all([*twice, *hopes])
        return self


# An edge of a phantom: a brain needs so many voxels, and half a thousand to a side already fill a workstation's memory.
Edge = Annotated[int, Field(ge=8, le=512, strict=True)]
# What phantoms have, as the Medical Segmentation Decathlon's Task01_BrainTumour has it.
PHANTOM_MODALITIES = ("FLAIR", "T1w", "t1gd", "T2w")
PHANTOM_LABELS = (1, 2, 3)


class Phantom(Section):
    """Synthetic brains with tumours that stand in for a data set. They are no patients."""

    subjects: Annotated[int, Field(ge=2, strict=True)] = Field(12, description="Number of phantom subjects.")
    shape: tuple[Edge, Edge, Edge] = Field((48, 48, 32), description="Voxels along x, y and z.")
    seed: Natural = Field(0, description="Seed of the phantoms.")
    contrast: Annotated[Number, Field(ge=0, le=2)] = Field(
        1.0, description="Contrast of the tumours against white matter: 1 is a usual scanner's, 0 is none."
    )
    tumour_radius: tuple[Number, Number] = Field(
        (0.14, 0.26),
        description="Smallest and largest mean radius of a tumour, edema included, as fractions of the shortest edge.",
    )
    tumour_rate: Annotated[Number, Field(gt=0, le=1)] = Field(
        1.0, description="Share of the subjects that have a tumour; the others are healthy."
    )

    @model_validator(mode="after")
    def _radii_rise(self) -> Phantom:
        if not 0 < self.tumour_radius[0] <= self.tumour_radius[1] < 0.5:
            refuse("two rising fractions between 0 and 0.5 are needed", ("tumour_radius",))
        return self


class Augment(Section):
    """Random changes of training images."""

    flip: YesNo = Field(True, description="Mirror along the first two axes, each with probability 1/2.")
    rotate90: YesNo = Field(
        False,
        description="Rotate by multiples of 90 degrees in the first two axes (square crops).",
    )
    noise: Annotated[Number, Field(ge=0)] = Field(
        0.0,
        description="Standard deviation of added noise, in units of the normalised image.",
    )


class Data(Section):
    """Which images and labels, and what is done to them before they reach the model."""

    format: Literal["decathlon"] = Field(
        "decathlon", description="Layout of the folder: Medical Segmentation Decathlon."
    )
    phantom: Phantom | None = Field(
        None, description="Make this phantom data set when storage.data names none."
    )
    modalities: Annotated[tuple[Word | Natural, ...], Field(min_length=1)] = Field(
        ("FLAIR",),
        description="Channels of the input, by name or number in dataset.json.",
    )
    target: (
        Literal["whole_tumor", "tumor_core", "enhancing"] | Annotated[tuple[Count, ...], Field(min_length=1)]
    ) = Field(
        "whole_tumor",
        description="Labels that are segmented as one, by name (Task01_BrainTumour) or number.",
    )
    crop: tuple[Count, Count, Count] = Field(
        (32, 32, 32), description="Voxels kept along x, y and z, from the centre."
    )
    validation_fraction: Annotated[Number, Field(gt=0, lt=1)] = Field(
        0.2, description="Share of the subjects held out for validation."
    )
    augment: Augment = Field(Augment(), description="Random changes of training images.")
    slices: Literal["all", "tumor"] = Field(
        "tumor", description="2-D models: train on all slices, or on those with tumour."
    )


class Model(Section):
    """The network."""

    name: Literal["unet2d", "unet3d", "digits", "bowl"] = Field(
        "unet2d",
        description="U-Net on slices or on volumes; of federations also: a small network on handwritten digits, a "
        "quadratic bowl. Neither needs TensorFlow.",
    )
    kind: Literal["cnn", "mlp"] = Field("cnn", description="Of digits: with a convolution, or dense layers.")
    width: Count = Field(16, description="Of digits: feature maps, or hidden units.")
    parameters: Count = Field(1000, description="Of the bowl: number of weights (float32).")
    filters: Count = Field(
        16,
        description="Feature maps of the first level; each level below has twice as many.",
    )
    depth: Annotated[int, Field(ge=2, le=8, strict=True)] = Field(4, description="Number of levels.")
    dropout: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.0, description="Share of features dropped at the lowest levels."
    )
    batch_norm: YesNo = Field(True, description="Batch normalisation after each convolution.")
    upsampling: Literal["transpose", "nearest"] = Field(
        "transpose", description="How a level is brought to the size of the one above."
    )


# Models that train on images in files, with TensorFlow.
UNETS = ("unet2d", "unet3d")


class Training(Section):
    """What every rank runs."""

    strategy: Literal["horovod", "single"] = Field(
        "horovod", description="Data parallel by Horovod, or one process."
    )
    model: Model = Field(Model(), description="The network.")
    data: Data = Field(Data(), description="The images.")
    epochs: Count = Field(10, description="Passes over the training set.")
    batch_size: Count = Field(8, description="Images of one rank in one step.")
    learning_rate: Annotated[Number, Field(gt=0)] = Field(
        1e-3, description="Adam's learning rate for one rank."
    )
    scale_learning_rate: YesNo = Field(True, description="Multiply the learning rate by the number of ranks.")
    warmup_epochs: Annotated[Number, Field(ge=0)] = Field(
        1.0, description="Epochs in which the rate grows to its scaled value."
    )
    loss: Literal["dice", "dice_bce"] = Field(
        "dice", description="Soft Dice, or its sum with binary cross-entropy."
    )
    seed: Natural = Field(0, description="Seed of weights, order and augmentation.")
    checkpoint_every: Count = Field(1, description="Epochs between checkpoints.")
    deterministic: YesNo = Field(
        True,
        description="Same seed and ranks give the same losses; costs some speed on GPUs.",
    )
    limit_batches: Count | None = Field(None, description="At most this many steps an epoch (for trials).")

    @model_validator(mode="after")
    def _crop_fits(self) -> Training:
        if self.model.name not in UNETS:
            return self
        refuse_all((("data", "crop", axis), text) for axis, text in _crop_complaints(self.model, self.data))
        return self


def _crop_complaints(model: Model, data: Data) -> Iterator[tuple[int, str]]:
    step = 2 ** (model.depth - 1)
    pooled = 3 if model.name == "unet3d" else 2
    for axis, size in enumerate(data.crop):
        if axis < pooled and size % step:
            near = max(step, round(size / step) * step)
            why = f"a model of depth {model.depth} halves it {model.depth - 1} times"
            yield (
                axis,
                f"{size} is no multiple of {step}, and {why} (for example {near})",
            )
        elif data.phantom and size > data.phantom.shape[axis]:
            yield (
                axis,
                f"the crop of {size} is larger than the phantoms ({data.phantom.shape[axis]})",
            )


# Sections that a collaborator's jobs may have of their own.
OF_ITS_OWN = ("resources", "placement", "environment")


class Collaborator(Section):
    """One that trains on its own data. What it does not say is the experiment's."""

    name: Name = Field(description="Name, in files and tables.")
    data: PathText | None = Field(None, description="Folder of its data set, as its jobs see it.")
    phantom: Phantom | None = Field(None, description="Phantoms of its own, instead of a data set.")
    weight: Positive | None = Field(None, description="Weight in means, instead of its number of samples.")
    site: PathText | None = Field(
        None,
        description="Site profile whose defaults for resources, placement and environment hold for its jobs, below "
        "what it says itself.",
    )
    resources: Resources | None = Field(None, description="What its jobs ask for.")
    placement: Placement | None = Field(None, description="Its ranks and cores.")
    environment: Environment | None = Field(None, description="What its jobs load.")


class Federation(FederationRules):
    """Learning together without bringing the data together: every round is a few batch jobs."""

    collaborators: Annotated[tuple[Collaborator, ...], Field(min_length=1)] | Count = Field(
        description="Who takes part; a number stands for so many that differ in their data alone."
    )

    @property
    def members(self) -> tuple[Collaborator, ...]:
        """All collaborators, those that were only counted with their names."""
        if isinstance(self.collaborators, int):
            return tuple(Collaborator(name=name) for name in counted(self.collaborators))
        return self.collaborators

    @model_validator(mode="after")
    def _rules_fit(self) -> Federation:
        names = [member.name for member in self.members]
        refuse_all([*names_complaints(names), *rule_complaints(self, len(names)), *self._alone()])
        return self

    def _alone(self) -> Iterator[Complaint]:
        if self.execution == "chained" or isinstance(self.collaborators, int):
            return
        for index, member in enumerate(self.collaborators):
            said = ("site",) if member.site else OF_ITS_OWN
            for key in said:
                if getattr(member, key) is not None:
                    text = f"has no job of its own with execution: {self.execution} (say chained, or leave it out)"
                    yield ("collaborators", index, key), text


class Experiment(Section):
    """One experiment, from resources to model. Every key but `name` has a default."""

    name: Name = Field(description="Name of the experiment; its runs are kept in a folder of this name.")
    description: Text = Field("", description="Free text, kept with the run.")
    flow: Literal["train", "federated", "evaluation", "comparison"] = Field(
        "train",
        description="What is done: train; learn in a federation; evaluate models there; compare it with learning "
        "alone and with learning from all data at once.",
    )
    resources: Resources = Field(Resources(), description="What the scheduler is asked for.")
    placement: Placement = Field(Placement(), description="Ranks and cores.")
    threads: Threads = Field(Threads(), description="Threads of a rank.")
    storage: Storage = Field(Storage(), description="Data and runs.")
    environment: Environment = Field(Environment(), description="Modules and variables.")
    container: Container | None = Field(
        None, description="The image that jobs run in; left out: the environment that hpcflow itself runs in."
    )
    training: Training = Field(Training(), description="What every rank runs.")
    sweep: Sweep | None = Field(None, description="Trials with other values of some keys.")

    federation: Federation | None = Field(None, description="Who learns together, and by which rules.")

    @model_validator(mode="after")
    def _federation_and_flow(self) -> Experiment:
        refuse_all(_flow_complaints(self))
        return self

    @model_validator(mode="after")
    def _strategy_and_ranks(self) -> Experiment:
        several = self.resources.nodes > 1 or any(
            (value or 1) > 1
            for value in (
                self.placement.ranks_per_node,
                self.placement.ranks_per_socket,
                self.placement.ranks,
            )
        )
        if self.training.strategy == "single" and several:
            refuse(
                "`single` is one process, and more than one rank is asked for (say horovod)",
                ("training", "strategy"),
            )
        if self.federation is None and self.storage.data is None and self.training.data.phantom is None:
            refuse(
                "no data: name a folder in storage.data, or let training.data.phantom make phantoms",
                ("storage",),
            )
        refuse_all(_phantom_complaints(self))
        return self


def _phantom_complaints(experiment: Experiment) -> Iterator[Complaint]:
    """What the data is asked for that phantoms do not have; of a real data set its own file tells."""
    data, members = experiment.training.data, experiment.federation.members if experiment.federation else ()
    if experiment.training.model.name not in UNETS or experiment.storage.data or any(m.data for m in members):
        return
    names = [name.lower() for name in PHANTOM_MODALITIES]
    has = ", ".join(f"{number} {name}" for number, name in enumerate(PHANTOM_MODALITIES))
    for index, item in enumerate(data.modalities):
        if item.lower() not in names if isinstance(item, str) else item >= len(names):
            yield (
                ("training", "data", "modalities", index),
                f"phantoms have no modality {item} (they have {has})",
            )
    for index, label in enumerate(data.target if isinstance(data.target, tuple) else ()):
        if label not in PHANTOM_LABELS:
            yield (
                ("training", "data", "target", index),
                f"phantoms have no label {label} (they have 1, 2 and 3)",
            )


def _flow_complaints(experiment: Experiment) -> Iterator[Complaint]:
    rules, model = experiment.federation, experiment.training.model.name
    if experiment.flow == "train":
        if rules is not None:
            yield ("flow",), "`federation` is there, and nothing of it would happen (say flow: federated)"
        if model not in UNETS:
            yield (
                ("training", "model", "name"),
                f"{model} is trained in federations alone (say flow: federated)",
            )
        if experiment.container and experiment.container.confine:
            yield (
                ("container", "confine"),
                "flow: train has one data set, which all its jobs see (leave it out)",
            )
        return
    if rules is None:
        yield ("federation",), f"flow: {experiment.flow} needs it (as in {{rounds: 10, collaborators: 3}})"
        return
    shared = experiment.storage.data or experiment.training.data.phantom
    for index, member in enumerate(rules.members):
        if model in UNETS and not (shared or member.data or member.phantom):
            at = ("federation", "collaborators") + (() if isinstance(rules.collaborators, int) else (index,))
            yield at, f"{member.name} has no data (name its folder in data, or let phantom make phantoms)"
            if isinstance(rules.collaborators, int):
                break
    if model in UNETS and rules.partition.method in ("labels", "dirichlet"):
        text = f"subjects have no labels for {rules.partition.method} (iid, sizes or institution deal them)"
        yield ("federation", "partition", "method"), text
    if model not in UNETS and rules.client.optimizer == "adam":
        yield ("federation", "client", "optimizer"), f"{model} is trained by sgd or momentum"
    if experiment.flow == "evaluation" and not rules.models:
        yield ("federation", "models"), "flow: evaluation needs the models that it evaluates"
