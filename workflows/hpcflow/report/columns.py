"""The columns of a report, in their order. docs/results.md prints this table; a test keeps the two the same."""

from __future__ import annotations

from dataclasses import dataclass

OVERRIDDEN = "<key>"
"""Stands for the columns of overridden keys, one each, named by the dotted key."""


@dataclass(frozen=True)
class Field:
    """A column: its name in the CSV, its unit, what it says and where that comes from.

    ``title`` heads it in the printed table; without one it is in the CSV and the JSON alone.
    """

    name: str
    meaning: str
    unit: str = ""
    title: str = ""


FIELDS = (
    Field("experiment", "`name` of the experiment."),
    Field("run", "ID of the run.", title="RUN"),
    Field("job", "Job of the run's graph.", title="JOB"),
    Field("task", "Number of the task in its job, from 0.", title="TASK"),
    Field("trial", "Number of the trial in its sweep, from 1.", title="TRIAL"),
    Field("repeat", "Which repeat of its trial it is, from 0.", title="REPEAT"),
    Field("baseline", "Number of the trial that this one is compared with."),
    Field(
        "configuration",
        "What repeats have in common and nothing else has: a digest of the resolved experiment without its name and "
        "seed, and of where its ranks are.",
    ),
    Field(
        "state",
        "State of the task: waiting, pending, running, done, failed, timeout, cancelled or unknown.",
        title="STATE",
    ),
    Field("reason", "A sentence on the state, where it needs one.", title="REASON"),
    Field(
        OVERRIDDEN,
        "One column for each key that any of the runs was given by `--set` or by its sweep, named by the dotted key: "
        "its value in this task's resolved experiment. Lists and mappings are JSON.",
    ),
    Field("nodes", "Nodes: of the rank map, else of the job.", title="NODES"),
    Field("ranks", "MPI ranks: of the rank map, else as the training counted them.", title="RANKS"),
    Field("ranks_per_node", "Ranks of a node; empty where nodes have different numbers."),
    Field("cores_per_rank", "Cores of the rank that has fewest.", title="CORES/RANK"),
    Field("launcher", "What started the ranks."),
    Field(
        "round",
        "Of a federation: the round that the task is of; of one that does all rounds, the last that is committed.",
        title="ROUND",
    ),
    Field(
        "collaborator",
        "Of a federation: whose task it is, or `holdout`, whose data the aggregate was judged on.",
        title="COLLABORATOR",
    ),
    Field("samples", "Of a federation: training samples behind the update, its weight in a mean by samples."),
    Field("epochs", "Epochs done; empty for a federation.", title="EPOCHS"),
    Field("loss", "Training loss of the last epoch.", title="LOSS"),
    Field("dice", "Training Dice of the last epoch."),
    Field(
        "val_loss",
        "Validation loss of the last epoch. Of a federation: of a collaborator's training, that of its own model on its "
        "validation data; of an evaluation, that of the aggregate; of an aggregation or a task that does all rounds, "
        "that of the round's aggregate on the hold-out (else the mean over all validation data).",
    ),
    Field("val_dice", "Validation Dice, likewise.", title="VAL DICE"),
    Field("val_accuracy", "Validation accuracy, of models that classify, likewise.", title="VAL ACCURACY"),
    Field("best_loss", "Smallest training loss of an epoch."),
    Field("best_dice", "Largest training Dice of an epoch."),
    Field("best_val_loss", "Smallest validation loss of an epoch."),
    Field("best_val_dice", "Largest validation Dice of an epoch.", title="BEST"),
    Field("best_epoch", "The first epoch that reached `best_val_dice`."),
    Field(
        "images_per_s",
        "What all ranks together trained on, validation left out: median over the epochs after the first, which "
        "warms up; the first where there is no other.",
        "images/s",
        "IMAGES/S",
    ),
    Field("allreduce_s", "Time in allreduce over all epochs; mean over ranks.", "s", "ALLREDUCE S"),
    Field("train_s", "Time in training steps over all epochs; of rank 0.", "s"),
    Field("epoch_s", "Time in epochs, validation included and checkpoints not; of rank 0.", "s"),
    Field("input_s", "Time that steps waited for images; mean over ranks.", "s"),
    Field("wall_s", "From the start of the task's script to its end; empty before the end.", "s", "WALL S"),
    Field(
        "queue_s",
        "From submission to start, the wait for earlier jobs included: from accounting, else from the record, else "
        "counted from the submission in provenance.json.",
        "s",
        "QUEUE S",
    ),
    Field("startup_s", "From the start of rank 0's process to its first step.", "s"),
    Field(
        "cpu_s",
        "CPU time of all processes on all nodes: from accounting; else from the record (one node) or from the ranks.",
        "s",
    ),
    Field(
        "cpu_efficiency",
        "`cpu_s` / (`wall_s` x `ranks` x `cores_per_rank`): 1 is every core busy all the time.",
        title="CPU EFF",
    ),
    Field(
        "peak_memory_mb",
        "Largest resident memory of a process tree that Slurm counts as one: from accounting, else as the training "
        "says it.",
        "MiB",
    ),
    Field(
        "memory_efficiency",
        "`peak_memory_mb` as a share of `resources.memory`: of one node where accounting tells it, else of all; empty "
        "where the experiment asks for no memory.",
    ),
    Field("cpus", "Logical CPUs of the allocation, on all nodes."),
    Field("core_hours", "`cpus` x `wall_s` / 3600: what the dry run counts, for the time that it took.", "h"),
    Field("cost", "By the `prices` of the site's profile at the time of the submission, in its currency."),
    Field("started", "Start of the task's script (UTC, ISO 8601)."),
    Field("ended", "Its end."),
    Field("exit_code", "Exit code of the task's script."),
    Field("attempt", "How often the scheduler had started the task before: 0 for the first time."),
    Field("job_id", "The scheduler's number of the task.", title="JOB ID"),
    Field("host", "Host of the task's script.", title="HOST"),
)


def names(overridden: tuple[str, ...]) -> list[str]:
    """The columns of a report in which these keys were overridden."""
    result: list[str] = []
    for field in FIELDS:
        result += overridden if field.name == OVERRIDDEN else (field.name,)
    return result


def markdown() -> str:
    """The columns as a Markdown table."""
    rows = [f"| `{field.name}` | {field.unit} | {field.meaning} |" for field in FIELDS]
    return "\n".join(["| column | unit | meaning |", "|---|---|---|", *rows]) + "\n"
