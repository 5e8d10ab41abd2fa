"""The picture of a rank map as an SVG file, for slides and reports: no script, no font but the viewer's own."""

from __future__ import annotations

from xml.sax.saxutils import escape

from hpcflow.placement.drawing import Panel, colour, panels, sentence
from hpcflow.placement.rankmap import RankMap
from hpcflow.placement.topology import Topology

CELL, GAP, PAD = 26, 4, 14
PER_ROW = 24  # cores of a socket in one row; more are folded
MOST_PANELS = 16
FONT = "font-family='Helvetica, Arial, sans-serif'"
MONO = "font-family='DejaVu Sans Mono, Menlo, Consolas, monospace'"
INK, SOFT, LINE, IDLE = "#1f2933", "#616e7c", "#cbd2d9", "#eef1f4"
MONO_WIDTH = 0.61  # of the font's size, for DejaVu Sans Mono


def svg(rankmap: RankMap, command: str = "") -> str:
    """The whole picture. ``command`` is written below the title."""
    parts: list[str] = []
    width, y = 0.0, 0.0
    drawn = panels(rankmap)
    y = 30.0
    parts.append(_text(PAD, y, sentence(rankmap), 16, INK, "bold"))
    width = 9.0 * len(sentence(rankmap)) + 2 * PAD
    y += 10
    columns = max(_node_width(rankmap.topology(panel.node)) for panel in drawn[:MOST_PANELS]) + 2 * PAD
    width = max(width, columns)
    for row in _wrap(command, int((width - 2 * PAD) / (11 * MONO_WIDTH))):
        y += 16
        parts.append(_text(PAD, y, row, 11, SOFT, font=MONO))
    y += 14
    for panel in drawn[:MOST_PANELS]:
        body, height = _panel(rankmap, panel, y)
        parts.append(body)
        y += height + PAD
    if len(drawn) > MOST_PANELS:
        y += 10
        parts.append(_text(PAD, y, f"... and {len(drawn) - MOST_PANELS} more kinds of node", 13, SOFT))
        y += PAD
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0f}' height='{y:.0f}' "
        f"viewBox='0 0 {width:.0f} {y:.0f}'>\n<rect width='100%' height='100%' fill='white'/>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, size: int, fill: str, weight: str = "normal", font: str = FONT,
          anchor: str = "start") -> str:  # fmt: skip
    kept = "preserve" if font == MONO else "default"
    return (
        f"<text x='{x:g}' y='{y:g}' {font} font-size='{size}' font-weight='{weight}' fill='{fill}' "
        f"text-anchor='{anchor}' xml:space='{kept}'>{escape(text)}</text>"
    )


def _wrap(text: str, width: int) -> list[str]:
    """Lines of a command, broken at blanks."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word if not lines else f"  {word}")
    return lines


def _socket_size(cores: int) -> tuple[float, float]:
    columns, rows = min(cores, PER_ROW), -(-cores // PER_ROW)
    return columns * (CELL + GAP) - GAP + 2 * PAD, rows * (CELL + GAP) - GAP + 2 * PAD + 16


def _node_width(node: Topology) -> float:
    """Two sockets stand side by side if they are short."""
    widest = max(_socket_size(len(socket))[0] for socket in node.sockets)
    return widest * _abreast(node) + GAP * 2 * (_abreast(node) - 1) + 2 * PAD


def _abreast(node: Topology) -> int:
    return 2 if len(node.sockets) > 1 and max(map(len, node.sockets)) <= PER_ROW else 1


def _panel(rankmap: RankMap, panel: Panel, top: float) -> tuple[str, float]:
    """One kind of node at height ``top``; its drawing and its height."""
    node = rankmap.topology(panel.node)
    names = [rankmap.hosts[number] for number in panel.nodes]
    title = ", ".join(names[:6]) + (f", ... {names[-1]} ({len(names)} nodes alike)" if len(names) > 6 else "")
    owners: dict[int, list[int]] = {}
    for place in rankmap.by_node[panel.node]:
        for core in place.cores:
            owners.setdefault(core, []).append(place.rank)
    parts = [_text(2 * PAD, top + 22, title, 13, INK, "bold")]
    abreast = _abreast(node)
    widest = max(_socket_size(len(socket))[0] for socket in node.sockets)
    y, row_height = top + 32, 0.0
    for number, socket in enumerate(node.sockets):
        x = 2 * PAD + (number % abreast) * (widest + GAP * 2)
        if number and number % abreast == 0:
            y, row_height = y + row_height + GAP * 2, 0.0
        width, height = _socket_size(len(socket))
        row_height = max(row_height, height)
        parts.append(
            f"<rect x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}' rx='6' fill='white' stroke='{LINE}'/>"
        )
        parts.append(_text(x + PAD, y + 17, f"socket {number}", 11, SOFT))
        for index, core in enumerate(socket):
            at_x = x + PAD + (index % PER_ROW) * (CELL + GAP)
            at_y = y + PAD + 10 + (index // PER_ROW) * (CELL + GAP)
            parts.append(_core(at_x, at_y, owners.get(core, [])))
            if index and index % PER_ROW and node.cores[core].numa != node.cores[socket[index - 1]].numa:
                bar = at_x - GAP / 2
                parts.append(
                    f"<path d='M{bar:g} {at_y - 2:g}v{CELL + 4}' stroke='{INK}' stroke-width='1.2'/>"
                )
    height = y + row_height + PAD - top
    widths = widest * abreast + GAP * 2 * (abreast - 1) + 2 * PAD
    frame = f"<rect x='{PAD}' y='{top:g}' width='{widths:g}' height='{height:g}' rx='10' fill='#f8f9fb' stroke='{LINE}'/>"
    return frame + "\n" + "\n".join(parts), height


def _core(x: float, y: float, ranks: list[int]) -> str:
    fill = colour(ranks[0]) if ranks else IDLE
    label = "+".join(map(str, ranks))
    size = 12 if len(label) < 3 else 10 if len(label) < 4 else 7
    box = f"<rect x='{x:g}' y='{y:g}' width='{CELL}' height='{CELL}' rx='4' fill='{fill}'/>"
    if not ranks:
        return box
    return box + _text(
        x + CELL / 2, y + CELL / 2 + size * 0.36, label, size, "white", "bold", anchor="middle"
    )
