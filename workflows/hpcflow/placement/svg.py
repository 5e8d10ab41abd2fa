"""The picture of a rank map as an SVG file, for slides and reports: no script, no font but the viewer's own."""

from __future__ import annotations

from hpcflow.placement.drawing import panels, sentence
from hpcflow.placement.rankmap import RankMap
from hpcflow.placement.svg_node import PAD, node_width, panel
from hpcflow.placement.svg_text import BOLD_WIDTH, INK, MONO, MONO_WIDTH, SOFT, WIDTH, text, wrap

MOST_PANELS = 16
TITLE, SMALL = 16, 11
NARROWEST = 420.0


def svg(rankmap: RankMap, command: str = "", whole_cores: bool = True) -> str:
    """The whole picture. ``command`` is written below the title; ``whole_cores`` as in drawing.picture."""
    drawn = panels(rankmap)
    shown = drawn[:MOST_PANELS]
    inner = max(NARROWEST, *(node_width(rankmap.topology(kind.node)) for kind in shown))
    parts: list[str] = []
    y = 14.0
    for row in wrap(sentence(rankmap), int(inner / (TITLE * BOLD_WIDTH))):
        y += TITLE + 3
        parts.append(text(PAD, y, row.strip(), TITLE, INK, "bold"))
    y += 8
    for row in wrap(command, int(inner / (SMALL * MONO_WIDTH))):
        y += 16
        parts.append(text(PAD, y, row, SMALL, SOFT, font=MONO))
    y += 14
    for kind in shown:
        body, height = panel(rankmap, kind, y, inner, whole_cores)
        parts.append(body)
        y += height + PAD
    rest = [f"... and {len(drawn) - MOST_PANELS} more kinds of node"] if len(drawn) > MOST_PANELS else []
    for row in [*rest, *wrap(_legend(rankmap), int(inner / (SMALL * WIDTH)))]:
        y += 14
        parts.append(text(PAD, y, row.strip(), SMALL, SOFT))
    y, width = y + PAD, inner + 2 * PAD
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0f}' height='{y:.0f}' "
        f"viewBox='0 0 {width:.0f} {y:.0f}'>\n<rect width='100%' height='100%' fill='white'/>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _legend(rankmap: RankMap) -> str:
    """What the marks mean, of those that are there."""
    cores = [core for shape in rankmap.shapes for core in shape.cores]
    said = ["a box is a core with its rank, a pale one idle"]
    if any(len(core.pus) > 1 for core in cores):
        said.append(
            "a white mark is a hardware thread that the rank is bound to, a faint one another of its core"
        )
    if any(
        len({shape.cores[i].numa for i in socket}) > 1 for shape in rankmap.shapes for socket in shape.sockets
    ):
        said.append("a line parts NUMA nodes")
    if any(
        len({shape.cores[i].l3 for i in socket}) > 1 for shape in rankmap.shapes for socket in shape.sockets
    ):
        said.append("a dashed line L3 groups")
    return "; ".join(said)
