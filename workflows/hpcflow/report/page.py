"""`report --html`: one page with everything in it, for a screen of any width and for paper.

No script, no font, no address: the page looks the same in ten years and without a network, and its policy forbids it to
load anything. Text from runs is escaped once, here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from hpcflow.cli.table import text_of
from hpcflow.jobs.rundir import RunDir
from hpcflow.report import aggregate, look, plots, row
from hpcflow.report.experiment import value
from hpcflow.report.prose import INTERVALS, with_interval
from hpcflow.report.results import Results, publish
from hpcflow.report.study import Study
from hpcflow.report.summary import view

MOST_ROWS = 500
"""More rows of single tasks make a page that no phone opens: they are in the CSV."""

CSS = """
:root { color-scheme: light; --ink: #1a1a1a; --soft: #555; --line: #d8d8d8; --tint: #f4f6f8; }
* { box-sizing: border-box; }
body { font: 1rem/1.5 system-ui, "DejaVu Sans", Verdana, sans-serif; color: var(--ink); background: #fff;
  margin: 0 auto; padding: 1rem; max-width: 70rem; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: .5rem 0 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.when, .note, figcaption, caption { color: var(--soft); font-size: .9rem; }
.answer { border-left: .3rem solid #0072b2; background: var(--tint); padding: .7rem 1rem; margin: 1rem 0; }
.answer p { margin: .3rem 0; }
.wide { overflow-x: auto; border: 1px solid var(--line); }
.wide:focus { outline: 2px solid #0072b2; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; min-width: 100%; }
caption { text-align: left; padding: .4rem .6rem; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--line); }
thead th { background: var(--tint); border-top: 0; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
thead th:first-child { background: var(--tint); }
.words { text-align: left; white-space: normal; min-width: 12rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; min-width: 0; }
figure svg { width: 100%; height: auto; display: block; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .9rem; margin: .5rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
@media print {
  @page { size: A4 landscape; margin: 12mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  .wide { overflow: visible; border: 0; }
  th:first-child, td:first-child { position: static; }
  table { font-size: 7pt; width: 100%; } th, td { padding: .15rem .25rem; }
  th, td, .words { white-space: normal; overflow-wrap: anywhere; min-width: 0; }
  figure, .answer, tr { break-inside: avoid; } h2 { break-after: avoid; }
  .plots { grid-template-columns: 1fr 1fr; }
}
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"

FACTS: tuple[tuple[str, str], ...] = (
    ("submitted", "submitted"), ("hpcflow", "hpcflow"), ("engine", "engine"), ("Slurm", "slurm"),
    ("launcher", "launcher.name"), ("its version", "launcher.version"), ("site", "site"), ("Python", "python"),
    ("commit", "git.commit"),
)  # fmt: skip
"""What of provenance.json is shown: nothing that names a person, a host or a folder."""


def write(study: Study, runs: Sequence[RunDir], path: Path) -> None:
    """Publish the page. Raises SiteError where it cannot be written."""
    publish(path, render(study, runs).encode())


def render(study: Study, runs: Sequence[RunDir]) -> str:
    """The page as text."""
    names = list(dict.fromkeys(str(name) for name in study.results.values("experiment"))) or ["no results"]
    title = f"{', '.join(names)}: results"
    body = "".join(_body(study, runs, title))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _body(study: Study, runs: Sequence[RunDir], title: str) -> Iterator[str]:
    yield f"<header><h1>{escape(title)}</h1>\n"
    yield f'<p class="when">{len(study.results)} tasks in {len(runs)} run{"" if len(runs) == 1 else "s"}'
    yield f"{_period(study.results)}</p></header>\n<main>\n"
    sentences = study.sentences
    if sentences:
        yield (
            '<section class="answer">'
            + "".join(f"<p>{escape(text)}</p>" for text in sentences)
            + "</section>\n"
        )
    yield "".join(f'<p class="note">{escape(note)}</p>\n' for note in study.notes)
    yield "<h2>Summary</h2>\n" + _summary(study)
    drawn = "".join(_figure(plot) for plot in plots.draw(study, runs))
    if drawn:
        yield f'<h2>Plots</h2>\n<div class="plots">\n{drawn}</div>\n'
    yield "<h2>Tasks</h2>\n" + _tasks(study.results)
    yield "<h2>Where this comes from</h2>\n" + "".join(map(_provenance, runs)) + "</main>\n"


SPEED = (
    "images_per_s",
    "speedup",
    "efficiency",
    "images_per_s_per_core",
    "allreduce_share",
    "repeats",
    "not_done",
)
SPENT = ("wall_s", "queue_s", "core_hours", "cost", "cpu_efficiency", "memory_efficiency", "val_dice")


def _summary(study: Study) -> str:
    """Two tables, since one is wider than a page: how fast it was, and what it took."""
    units = {field.name: field for field in aggregate.FIELDS}
    rows = [
        {
            **made,
            **{name: with_interval(made, name) for name in INTERVALS},
            "not_done": made["not_done"] or None,
        }
        for made in study.summary.rows
    ]
    places = ("nodes", "ranks", "cores_per_rank")
    # A key that is a column of its own anyway (resources.nodes) says nothing new.
    keys = [
        key for key in study.summary.columns
        if "." in key and not any(all(made.get(key) == made.get(place) for made in rows) for place in places)
    ]  # fmt: skip

    def table(caption: str, names: Sequence[str]) -> str:
        used = [name for name in names if any(made.get(name) not in (None, "") for made in rows)]
        heads = []
        for name in used:
            title, unit = (units[name].title.lower(), units[name].unit) if name in units else (name, "")
            heads.append(f"{title} ({unit})" if unit and unit not in title else title)
        return _table(caption, heads, [[text_of(made.get(name)) for name in used] for made in rows])

    # Keys that follow the nodes, as a batch does, come behind what is asked for.
    apart = len({str(made.get("nodes")) for made in rows}) == len(rows)
    first, last = (["nodes"], keys) if apart else ([*aggregate.names(study.series), *keys, "nodes"], [])
    speed, spent = [*first, *SPEED, *places[1:], *last], [*first, *SPENT]
    fast = table("Speed: medians over repeats, with bootstrap intervals (see the notes)", speed)
    return f"{fast}<p></p>\n{table('What it took: medians over repeats', spent)}"


def _tasks(found: Results) -> str:
    few = Results(found.columns, list(found.rows)[:MOST_ROWS])
    used = view(few).used
    cells = [list(line) for line in zip(*(texts for _, texts in used), strict=True)]
    rest = len(found) - len(few)
    note = f"The first {MOST_ROWS} tasks; {rest} more are in the CSV" if rest else "One row a task"
    return _table(note, [column.title.lower() for column, _ in used], cells, words=("reason",))


def _table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[str] = ()
) -> str:
    kinds = [' class="words"' if head in words else "" for head in heads]
    top = "".join(
        f'<th scope="col"{kind}>{escape(head)}</th>' for head, kind in zip(heads, kinds, strict=True)
    )
    lines = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{escape(text)}</td>" for text, kind in zip(cells, kinds, strict=True))
        + "</tr>\n"
        for cells in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{lines}</tbody></table></div>\n"
    )


def _figure(plot: plots.Plot) -> str:
    text = look.encode(plot.figure, "svg").decode()
    svg = text[text.index("<svg") :]
    # Names within a drawing are unique in it alone.
    svg = re.sub(r'\bid="', f'id="{plot.name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{plot.name}-", svg)
    svg = re.sub(r'xlink:href="#', f'xlink:href="#{plot.name}-', svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(plot.alt)}" ', 1)
    return f"<figure>\n{svg}</figure>\n"


def _provenance(run: RunDir) -> str:
    about = row.load_object(run.provenance)
    facts = [
        ("run", run.name),
        *((name, value(about, key)) for name, key in FACTS),
        ("command", _command(about)),
    ]
    packages = about.get("packages")
    if isinstance(packages, Mapping):
        facts.append(("packages", ", ".join(f"{name} {version}" for name, version in packages.items())))
    lines = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text_of(text))}</dd>\n" for name, text in facts if text
    )
    return f"<dl>\n{lines}</dl>\n"


def _command(about: Mapping[str, Any]) -> str:
    words = about.get("command")
    if not isinstance(words, list) or not words:
        return ""
    return " ".join(
        [
            Path(str(words[0])).name,
            *(Path(str(w)).name if str(w).startswith("/") else str(w) for w in words[1:]),
        ]
    )


def _period(found: Results) -> str:
    times = sorted(text for text in found.values("started") if text)
    if not times:
        return ""
    first, last = (datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M") for text in (times[0], times[-1]))
    return f", started {first} UTC" if first == last else f", started from {first} to {last} UTC"
