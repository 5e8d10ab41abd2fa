"""One node in an SVG picture: sockets, cores with their ranks and hardware threads, what parts them, and GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpcflow.placement.cpulist import ranges
from hpcflow.placement.drawing import Panel, colour
from hpcflow.placement.rankmap import RankMap
from hpcflow.placement.svg_text import BOLD_WIDTH, INK, LINE, SOFT, WIDTH, text, wrap
from hpcflow.placement.topology import Topology

CELL, GAP, PAD = 26, 4, 14
PER_ROW = 24  # cores of a socket in one row; more are folded
IDLE = "#eef1f4"
TITLE, CARD = 13, 20  # size of the hosts' names; height of a GPU
SMALLEST = 5.5


@dataclass(frozen=True)
class Owned:
    """Who is where on one node: the ranks of each core, the hardware threads that they are bound to, and GPUs."""

    cores: Mapping[int, Sequence[int]]
    pus: frozenset[int]
    gpus: Mapping[int, Sequence[int]]


def owned(rankmap: RankMap, node: int, whole_cores: bool) -> Owned:
    """Of a rank map; ``whole_cores`` says that the launcher binds all hardware threads of a core."""
    cores: dict[int, list[int]] = {}
    gpus: dict[int, list[int]] = {}
    pus: set[int] = set()
    for place in rankmap.by_node[node]:
        pus.update(rankmap.core_pus(place) if whole_cores else place.pus)
        for core in place.cores:
            cores.setdefault(core, []).append(place.rank)
        for gpu in place.gpus:
            gpus.setdefault(gpu, []).append(place.rank)
    return Owned(cores, frozenset(pus), gpus)


def node_width(node: Topology) -> float:
    """Of a node's panel. Two sockets stand side by side if they are short."""
    return _widest(node) * _abreast(node) + GAP * 2 * (_abreast(node) - 1) + 2 * PAD


def panel(rankmap: RankMap, kind: Panel, top: float, width: float, whole_cores: bool) -> tuple[str, float]:
    """One kind of node at height ``top``; its drawing and its height."""
    node, mine = rankmap.topology(kind.node), owned(rankmap, kind.node, whole_cores)
    names = [rankmap.hosts[number] for number in kind.nodes]
    title = ", ".join(names[:6]) + (f", ... {names[-1]} ({len(names)} nodes alike)" if len(names) > 6 else "")
    parts: list[str] = []
    y = top + 6
    for row in wrap(title, int((width - 2 * PAD) / (TITLE * BOLD_WIDTH))):
        y += TITLE + 3
        parts.append(text(2 * PAD, y, row.strip(), TITLE, INK, "bold"))
    y += 10
    row_height = 0.0
    for number in range(len(node.sockets)):
        if number and number % _abreast(node) == 0:
            y, row_height = y + row_height + GAP * 2, 0.0
        x = 2 * PAD + (number % _abreast(node)) * (_widest(node) + GAP * 2)
        parts.append(_socket(node, number, mine, x, y))
        row_height = max(row_height, _socket_size(len(node.sockets[number]))[1])
    y += row_height
    if node.gpus:
        drawn, y = _gpus(node, mine, y + GAP * 2, width)
        parts.append(drawn)
    height = y + PAD - top
    frame = f"<rect x='{PAD}' y='{top:g}' width='{width:g}' height='{height:g}' rx='10' fill='#f8f9fb' stroke='{LINE}'/>"
    return frame + "\n" + "\n".join(parts), height


def _widest(node: Topology) -> float:
    return max(_socket_size(len(socket))[0] for socket in node.sockets)


def _abreast(node: Topology) -> int:
    return 2 if len(node.sockets) > 1 and max(map(len, node.sockets)) <= PER_ROW else 1


def _socket_size(cores: int) -> tuple[float, float]:
    columns, rows = min(cores, PER_ROW), -(-cores // PER_ROW)
    width = max(columns * (CELL + GAP) - GAP, 11 * WIDTH * len("socket 0"))
    return width + 2 * PAD, rows * (CELL + GAP) - GAP + 2 * PAD + 8


def _socket(node: Topology, number: int, mine: Owned, x: float, y: float) -> str:
    socket = node.sockets[number]
    width, height = _socket_size(len(socket))
    parts = [
        f"<rect x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}' rx='6' fill='white' stroke='{LINE}'/>",
        text(x + PAD, y + 17, f"socket {number}", 11, SOFT),
    ]
    for index, core in enumerate(socket):
        at_x = x + PAD + (index % PER_ROW) * (CELL + GAP)
        at_y = y + PAD + 10 + (index // PER_ROW) * (CELL + GAP)
        parts.append(_core(at_x, at_y, mine.cores.get(core, ()), node.cores[core].pus, mine.pus))
        if index:
            parts.append(_parting(node, socket[index - 1], core, at_x - GAP / 2, at_y))
    return "\n".join(filter(None, parts))


def _parting(node: Topology, before: int, core: int, x: float, y: float) -> str:
    """The line where a NUMA node begins, a dashed one where an L3 group does."""
    left, right = node.cores[before], node.cores[core]
    if left.numa == right.numa and left.l3 == right.l3:
        return ""
    look = "1.6'" if left.numa != right.numa else "1.2' stroke-dasharray='3 3'"
    return f"<path d='M{x:g} {y - 3:g}v{CELL + 6}' stroke='{INK}' stroke-width='{look}/>"


def _core(x: float, y: float, ranks: Sequence[int], pus: Sequence[int], bound: frozenset[int]) -> str:
    """A core in the colour of its rank; below the rank a mark for each of its hardware threads, if there are several."""
    fill = colour(ranks[0]) if ranks else IDLE
    box = f"<rect x='{x:g}' y='{y:g}' width='{CELL}' height='{CELL}' rx='4' fill='{fill}'/>"
    marks = _threads(x, y + CELL - 5, ranks, pus, bound) if len(pus) > 1 else ""
    room = CELL - 4 - (4 if marks else 0)
    lines, size = label(ranks, room)
    first = y + 2 + (room - size * len(lines)) / 2
    rows = [
        text(x + CELL / 2, first + size * (row + 0.86), line, size, "white", "bold", anchor="middle")
        for row, line in enumerate(lines)
    ]
    name = f"<title>ranks {ranges(ranks)}</title>" if len(ranks) > 1 else ""
    return f"<g>{name}{box}{marks}{''.join(rows)}</g>" if name else box + marks + "".join(rows)


def _threads(x: float, y: float, ranks: Sequence[int], pus: Sequence[int], bound: frozenset[int]) -> str:
    width = (CELL - 6 - (len(pus) - 1) * 2) / len(pus)
    parts = []
    for index, pu in enumerate(pus):
        fill = "white" if ranks else LINE
        faint = "" if pu in bound or not ranks else " fill-opacity='0.3'"
        at = x + 3 + index * (width + 2)
        parts.append(f"<rect x='{at:g}' y='{y:g}' width='{width:g}' height='2.6' fill='{fill}'{faint}/>")
    return "".join(parts)


def label(ranks: Sequence[int], height: float) -> tuple[list[str], float]:
    """The ranks of a core in lines, and the size of their font: a run as 0-5, else one or two a line, whichever is
    larger; the number of ranks where they do not fit at all.
    """
    if not ranks:
        return [], 0.0
    names = [str(rank) for rank in ranks]
    pairs = [" ".join(names[i : i + 2]) for i in range(0, len(names), 2)]
    lines, size = max(
        ((form, _fits(form, height)) for form in ([ranges(ranks)], names, pairs)), key=lambda f: f[1]
    )
    return (lines, size) if size >= SMALLEST else ([f"{len(ranks)}x"], _fits([f"{len(ranks)}x"], height))


def _fits(lines: Sequence[str], height: float) -> float:
    """The largest size of font that lets ``lines`` stay inside of a core."""
    return min(12.0, (CELL - 3) / (BOLD_WIDTH * max(map(len, lines))), height / len(lines))


def _gpus(node: Topology, mine: Owned, y: float, width: float) -> tuple[str, float]:
    """GPUs in the colour of the rank that has them; their drawing and where it ends."""
    x, parts = 2.0 * PAD, []
    for number, gpu in enumerate(node.gpus):
        ranks = mine.gpus.get(number, ())
        said = gpu.name + (f": {ranges(ranks)}" if ranks else "")
        size = 11 * BOLD_WIDTH * len(said) + PAD
        if x > 2 * PAD and x + size > PAD + width - PAD:
            x, y = 2.0 * PAD, y + CARD + GAP
        fill, ink = (colour(ranks[0]), "white") if ranks else (IDLE, SOFT)
        parts.append(f"<rect x='{x:g}' y='{y:g}' width='{size:g}' height='{CARD}' rx='10' fill='{fill}'/>")
        parts.append(text(x + size / 2, y + 14, said, 11, ink, "bold", anchor="middle"))
        x += size + GAP * 2
    return "\n".join(parts), y + CARD
