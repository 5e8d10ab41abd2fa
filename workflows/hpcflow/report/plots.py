"""The plots of a report: scaling, efficiency, where the time goes, and how it learns.

Error bars are bootstrap intervals of the median over repeats, bands those of the fitted law. What a report has nothing
for is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcflow.errors import SiteError
from hpcflow.jobs import trials
from hpcflow.jobs.rundir import RunDir
from hpcflow.report import aggregate, look, metrics
from hpcflow.report.advice import Scaling, bounds
from hpcflow.report.groups import RATE, Group, Series
from hpcflow.report.intervals import Estimate, median
from hpcflow.report.results import publish
from hpcflow.report.study import Answer, Study
from hpcflow.report.trial import tasks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_SERIES = 6
"""More lines than that cannot be told apart: the first are drawn, and the title says so."""
_CURVE = 60
_LONGEST = 36  # characters of a label: half of a plot's width

PARTS = (
    ("training", look.BLUE), ("allreduce", look.ORANGE), ("waiting for images", look.AMBER),
    ("validation", look.GREEN), ("start-up", look.SKY), ("the rest", look.GREY),
)  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """A drawn plot: the stem of its file, and a sentence for who cannot see it."""

    name: str
    alt: str
    figure: Figure


def draw(study: Study, runs: Sequence[RunDir]) -> Iterator[Plot]:
    """Every plot that the report has something for."""
    shown = [answer for answer in study.answers if answer.series.measured(RATE)][:MOST_SERIES]
    hidden = len(study.answers) - len(shown)
    if shown:
        yield scaling(shown, hidden)
        yield efficiency(shown, hidden, study.question.efficiency)
    groups = [group for one in study.series for group in one.groups if group.done]
    if any(group.middle("wall_s") for group in groups):
        yield breakdown(groups[: 4 * MOST_SERIES], study.series)
    curves = _curves(runs)
    if curves:
        yield learning(study, curves)


def write(study: Study, runs: Sequence[RunDir], folder: Path) -> list[Path]:
    """Draw into ``folder`` as NAME.png and NAME.svg; the paths. Raises SiteError where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SiteError(f"{folder} cannot be made: {error.strerror}") from None
    written = []
    for plot in draw(study, runs):
        for kind in ("png", "svg"):
            written.append(folder / f"{plot.name}.{kind}")
            publish(written[-1], look.encode(plot.figure, kind))
    return written


def scaling(answers: Sequence[Answer], hidden: int = 0) -> Plot:
    """Speed over size, both logarithmic: a straight line is ideal."""
    unit = answers[0].series.unit
    with look.figure(f"Speed over {unit}{_more(hidden)}", unit, "images/s") as (figure, axes):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        for number, answer in enumerate(answers):
            _points(axes, answer, number, len(answers), lambda group, _: median(group.values(RATE)))
            base = answer.series.base
            sizes = [group.size for group in answer.series.groups if group.size and group.values(RATE)]
            rate = base.middle(RATE) or 1.0
            ideal = [rate * size / (base.size or 1) for size in sizes]
            axes.plot(
                sizes, ideal, color=look.GREY, lw=1, ls=":", label="ideal" if number == 0 else None, zorder=1
            )
            if answer.speed and answer.speed.fits:
                _band(axes, answer.speed, number, lambda s, n: _inverse(s.time(n)))
        _ticks(axes, answers)
        axes.legend(loc="upper left")
    return Plot("scaling", f"Images per second over {unit}, with the ideal line. {_say(answers)}", figure)


def efficiency(answers: Sequence[Answer], hidden: int, threshold: float) -> Plot:
    """Parallel efficiency over size, with the threshold of the recommendation."""
    unit = answers[0].series.unit
    with look.figure(f"Parallel efficiency{_more(hidden)}", unit, "efficiency against the baseline (%)") as (
        figure,
        axes,
    ):
        axes.set_xscale("log", base=2)
        axes.axhline(100, color=look.GREY, lw=1, ls=":", label="ideal")
        axes.axhline(
            100 * threshold, color=look.BLACK, lw=1, ls=(0, (6, 3)), label=f"{100 * threshold:g} % asked for"
        )
        for number, answer in enumerate(answers):
            _points(axes, answer, number, len(answers), _kept)
            if answer.speed and answer.speed.fits:
                _band(axes, answer.speed, number, lambda s, n: s.efficiency(n).scaled(100))
        axes.set_ylim(0, max(110.0, axes.get_ylim()[1]))
        _ticks(axes, answers)
        axes.legend(loc="lower left")
    return Plot("efficiency", f"Parallel efficiency over {unit}. {_say(answers)}", figure)


def breakdown(groups: Sequence[Group], series: Sequence[Series]) -> Plot:
    """Where the time of a task goes: medians over repeats, one bar a configuration."""
    labels = [_label(group, series) for group in groups]
    shares = [_parts(group) for group in groups]
    height = max(2.4, 1.3 + 0.42 * len(groups))
    with look.figure("Where the time goes", "seconds (median over repeats)", "", (look.SIZE[0], height)) as (
        figure,
        axes,
    ):
        left = np.zeros(len(groups))
        places = np.arange(len(groups))[::-1]
        for number, (part, colour) in enumerate(PARTS):
            width = np.array([share[part] for share in shares])
            if width.any():
                hatch = look.HATCHES[number % len(look.HATCHES)]
                axes.barh(
                    places,
                    width,
                    left=left,
                    height=0.62,
                    color=colour,
                    label=part,
                    hatch=hatch,
                    edgecolor="white",
                    lw=0.5,
                )
            left += width
        axes.set_yticks(places, labels)
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside lower center", ncols=3)
    said = "; ".join(f"{label}: {left[place]:.0f} s" for place, label in enumerate(labels))
    return Plot("time", f"Time of a task by what it was spent on. {said}.", figure)


Curves = Mapping[str, list[tuple[list[int], list[float]]]]


def learning(study: Study, curves: Curves) -> Plot:
    """Validation Dice over epochs, one line a task, one colour a configuration."""
    many = len(curves) > len(look.COLOURS)
    with look.figure("Learning", "epoch", "validation Dice (0 to 1)") as (figure, axes):
        labels = {
            str(g.get("configuration")): _label(g, study.series) for one in study.series for g in one.groups
        }
        for number, (configuration, lines) in enumerate(curves.items()):
            for index, (epochs, values) in enumerate(lines):
                axes.plot(
                    epochs, values, lw=1.4, alpha=0.85, marker=look.MARKERS[number % len(look.MARKERS)], ms=4,
                    color=look.COLOURS[number % len(look.COLOURS)], ls=look.LINES[number % len(look.LINES)],
                    label=labels.get(configuration) if index == 0 and not many else None,
                )  # fmt: skip
        axes.set_ylim(0, 1.02)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if not many and len(curves) > 1:
            axes.legend(loc="best")
    ends = [values[-1] for lines in curves.values() for _, values in lines]
    return Plot(
        "learning",
        f"Validation Dice by epoch; at the end between {min(ends):.2f} and {max(ends):.2f}.",
        figure,
    )


def _curves(runs: Sequence[RunDir]) -> Curves:
    """Validation Dice by configuration. Read here, since nothing else of a report needs every epoch."""
    from hpcflow.report.collect import Reader

    found: dict[str, list[tuple[list[int], list[float]]]] = {}
    for run in runs:
        rows = Reader(run).rows(())
        for task, row in zip(tasks(run, trials.read(run)), rows, strict=True):
            if len(found) > 4 * MOST_SERIES:
                return found
            lines = [
                line
                for line in metrics.read(task.dir.metrics).epochs
                if metrics.is_number(line.get("val_dice"))
            ]
            if len(lines) > 1:
                curve = [line["epoch"] for line in lines], [float(line["val_dice"]) for line in lines]
                found.setdefault(str(row.get("configuration")), []).append(curve)
    return found


def _points(
    axes: Any, answer: Answer, number: int, of: int, estimate: Callable[[Group, Group], Estimate | None]
) -> None:
    found = [
        (group.size, made)
        for group in answer.series.groups
        if group.values(RATE) and (made := estimate(group, answer.series.base)) is not None
    ]
    at, middle = [size for size, _ in found], [made.value for _, made in found]
    ends = np.array([bounds(made) for _, made in found]).T
    errors = np.abs(ends - np.array(middle))
    label = answer.series.title or ("median, bootstrap interval" if of == 1 else "measured")
    label = label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"
    axes.errorbar(
        at, middle, yerr=errors, fmt=look.MARKERS[number % len(look.MARKERS)], ms=6, capsize=4, lw=1.4,
        color=look.COLOURS[number % len(look.COLOURS)], label=label, zorder=3,
    )  # fmt: skip


def _band(axes: Any, found: Scaling, number: int, quantity: Callable[[Scaling, float], Estimate]) -> None:
    counts = found.measured.counts
    at = np.geomspace(counts[0], counts[-1], _CURVE)
    made = [quantity(found, float(n)) for n in at]
    colour, low_high = look.COLOURS[number % len(look.COLOURS)], np.array([bounds(one) for one in made]).T
    name = found.chosen.law.name if number == 0 else None
    axes.plot(
        at,
        [one.value for one in made],
        color=colour,
        lw=1.4,
        ls=look.LINES[number % len(look.LINES)],
        label=name,
    )
    axes.fill_between(at, low_high[0], low_high[1], color=colour, alpha=0.18, lw=0)


def _ticks(axes: Any, answers: Sequence[Answer]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    sizes = sorted({group.size for answer in answers for group in answer.series.groups if group.size})
    axes.set_xticks(sizes)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if axes.get_yscale() == "log":
        low, high = axes.get_ylim()
        if high / low < 100:
            steps = [1, 1.5, 2, 3, 5, 7] if high / low < 12 else [1, 2, 5]
            powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
            axes.set_yticks([s * p for p in powers for s in steps if low <= s * p <= high])
            axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _parts(group: Group) -> dict[str, float]:
    """Seconds by part; what the parts of a median leave is never less than nothing."""
    found = {name: group.middle(name) or 0.0 for name in ("wall_s", "train_s", "epoch_s", "startup_s")}
    reduce, wait = group.middle("allreduce_s") or 0.0, group.middle("input_s") or 0.0
    training = found["train_s"]
    validation = max(0.0, found["epoch_s"] - training)
    rest = max(0.0, found["wall_s"] - max(found["epoch_s"], training) - found["startup_s"])
    seconds = (max(0.0, training - reduce - wait), reduce, wait, validation, found["startup_s"], rest)
    return dict(zip((part for part, _ in PARTS), seconds, strict=True))


def _label(group: Group, series: Sequence[Series]) -> str:
    """The size where it tells the groups apart, else the varied keys as well."""
    unit, every = (series[0].unit if series else "nodes"), [g for one in series for g in one.groups]
    sizes = {g.size for g in every}
    several = len({g.key[0] for g in every}) > 1
    size = f"{group.size:g} {unit if group.size != 1 else unit[:-1]}" if group.size and len(sizes) > 1 else ""
    if size and len(sizes) == len(every) and not several:
        return size
    moved = [
        key for key in group.rows[0]
        if "." in key
        and not key.startswith(("resources.nodes", "placement."))
        and len({str(g.get(key)) for g in every}) > 1
    ]  # fmt: skip
    values = ", ".join(f"{key.rpartition('.')[2]} {group.get(key)}" for key in moved)
    label = ", ".join(filter(None, (group.key[0] if several else "", size, values))) or str(group.key[0])
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"


def _inverse(time: Estimate) -> Estimate:
    low, high = bounds(time)
    return Estimate(1 / time.value, 1 / high, 1 / low)


def _kept(group: Group, base: Group) -> Estimate | None:
    """Parallel efficiency in percent."""
    found = aggregate.efficiency(group, base)
    return found.scaled(100) if found else None


def _more(hidden: int) -> str:
    return f" ({hidden} more series are not shown)" if hidden > 0 else ""


def _say(answers: Sequence[Answer]) -> str:
    return " ".join(sentence for answer in answers[:1] for sentence in answer.sentences)
