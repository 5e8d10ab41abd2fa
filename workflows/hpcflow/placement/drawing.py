"""The picture of a rank map, as text: every node with its sockets in brackets, ranks by number and colour, idle cores
as dots; and every rank in the notation of Open MPI's --report-bindings, as in `R0 hostA [BB/BB/../..][../../../..]`.

A picture is made of pieces, (text, rank or None): plain where there is no terminal, coloured by `rich` where there is
one. Sockets wider than the terminal are folded at a core. Nodes that look alike are drawn once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcflow.placement.cpulist import brief, ranges
from hpcflow.placement.places import many
from hpcflow.placement.rankmap import RankMap, RankPlace
from hpcflow.placement.topology import Topology

if TYPE_CHECKING:
    from rich.text import Text

# Twelve hues that neighbours tell apart on light and on dark ground (rank mod 12).
COLOURS = (
    "#4e9af1", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#17a2a2",
    "#d4b106", "#9c755f", "#ff6fb5", "#7f8cff", "#6fa82e", "#5f6b7a",
)  # fmt: skip
MOST_RANKS = 64  # rank lines that are printed; a longer list says nothing that the nodes' pictures do not
MOST_NODES = 8  # nodes that are drawn each by itself, alike or not
IDLE = "."

Piece = tuple[str, int | None]
Line = tuple[Piece, ...]


@dataclass(frozen=True)
class Panel:
    """Nodes that look alike: the first of them, and who they are."""

    node: int
    nodes: tuple[int, ...]


def colour(rank: int) -> str:
    """The colour of a rank."""
    return COLOURS[rank % len(COLOURS)]


def panels(rankmap: RankMap) -> list[Panel]:
    """Every node by itself if they are few; else grouped by their shape and by which local ranks are where."""
    if rankmap.nodes <= MOST_NODES:
        return [Panel(node, (node,)) for node in range(rankmap.nodes)]
    groups: dict[tuple[int, tuple[tuple[int, ...], ...]], list[int]] = {}
    for node, ranks in enumerate(rankmap.by_node):
        key = (rankmap.shape_of[node], tuple(place.cores for place in ranks))
        groups.setdefault(key, []).append(node)
    return [Panel(nodes[0], tuple(nodes)) for nodes in groups.values()]


def picture(rankmap: RankMap, width: int, whole_cores: bool = True) -> list[Line]:
    """All of it, ``width`` columns wide at most.

    ``whole_cores`` says that the launcher binds all hardware threads of a core (LaunchLine.grain).
    """
    lines: list[Line] = []
    for panel in panels(rankmap):
        lines += [(), ((_title(rankmap, panel), None),)]
        owners: dict[int, list[int]] = {}
        for place in rankmap.by_node[panel.node]:
            for core in place.cores:
                owners.setdefault(core, []).append(place.rank)
        lines += draw_node(rankmap.topology(panel.node), owners, width)
    lines.append(())
    lines += rank_lines(rankmap, width, whole_cores)
    return lines


def _title(rankmap: RankMap, panel: Panel) -> str:
    names = [rankmap.hosts[node] for node in panel.nodes]
    shown = ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]}, ... {names[-1]}"
    node = rankmap.topology(panel.node)
    alike = f" ({len(names)} nodes alike; ranks of {names[0]})" if len(names) > 1 else ""
    idle = len(node.cores) - len({core for place in rankmap.by_node[panel.node] for core in place.cores})
    rest = f", {many(idle, 'core')} idle" if idle else ""
    return f"{shown}: {node.sentence()}{rest}{alike}"


def draw_node(node: Topology, owners: Mapping[int, Sequence[int]], width: int) -> list[Line]:
    """One line a socket, more where it is folded: the rank of every core; several ranks on a core as 0+3."""
    cells = {core: "+".join(map(str, ranks)) for core, ranks in owners.items()}
    size = max(map(len, [IDLE, *cells.values()]))
    lines: list[Line] = []
    for number, socket in enumerate(node.sockets):
        head = f"  socket {number} ["
        pieces: list[list[Piece]] = []
        for index, core in enumerate(socket):
            apart = _gap(node, socket, index)
            owner = owners.get(core, ())
            pieces.append([(apart, None), (cells.get(core, IDLE).rjust(size), owner[0] if owner else None)])
        lines += fold(head, pieces, "]", width)
    return lines


def _gap(node: Topology, socket: Sequence[int], index: int) -> str:
    """What stands before a core: a bar where its NUMA node or L3 group begins."""
    if not index:
        return ""
    before, here = node.cores[socket[index - 1]], node.cores[socket[index]]
    return " | " if before.numa != here.numa else " : " if before.l3 != here.l3 else " "


def fold(head: str, cells: Iterable[Sequence[Piece]], tail: str, width: int) -> list[Line]:
    """Cells behind a heading, broken between cells where the width ends; later lines are indented as the first."""
    lines: list[Line] = []
    current: list[Piece] = [(head, None)]
    used = len(head)
    for cell in cells:
        size = sum(len(text) for text, _ in cell)
        if used + size + len(tail) > width and used > len(head):
            lines.append(tuple(current))
            current, used = [(" " * len(head), None)], len(head)
            cell = [(cell[0][0].lstrip(), None), *cell[1:]] if cell[0][1] is None else cell
            size = sum(len(text) for text, _ in cell)
        current += cell
        used += size
    lines.append((*current, (tail, None)))
    return lines


def rank_lines(rankmap: RankMap, width: int, whole_cores: bool = True) -> list[Line]:
    """Every rank as the launcher reports it, B for each hardware thread that it has.

    Where that is wider than the terminal, the numbers of its sockets, cores and CPUs instead.
    """
    shown = rankmap.ranks[:MOST_RANKS]
    name = max(len(place.host) for place in shown)
    number = len(f"R{shown[-1].rank}")
    lines: list[Line] = []
    rows = [list(_bound(rankmap, place, whole_cores)) for place in shown]
    fits = all(
        number + name + 2 + sum(len(text) for cell in row for text, _ in cell) <= width for row in rows
    )
    for place, row in zip(shown, rows, strict=True):
        head = f"{f'R{place.rank}':<{number}} {place.host:<{name}} "
        if fits:
            lines.append(((head, None), *(piece for cell in row for piece in cell)))
        else:
            cpus = rankmap.core_pus(place) if whole_cores else place.pus
            sockets = "sockets" if len(place.sockets) > 1 else "socket"
            where = f"{sockets} {ranges(place.sockets)}, cores {ranges(place.cores)}"
            lines += fold(head, [[(f"{where},", place.rank)], [(f" CPUs {brief(cpus)}", None)]], "", width)
    if len(shown) < rankmap.size:
        pattern = ", by the same pattern on every node" if rankmap.uniform else ""
        lines.append(((f"... and {rankmap.size - len(shown)} more ranks{pattern}", None),))
    return lines


def bound(rankmap: RankMap, place: RankPlace, whole_cores: bool = True) -> str:
    """[BB/BB/../..][../../../..] of one rank."""
    return "".join(text for cell in _bound(rankmap, place, whole_cores) for text, _ in cell)


def _bound(rankmap: RankMap, place: RankPlace, whole_cores: bool) -> Iterator[list[Piece]]:
    node = rankmap.topology(place.node)
    mine = set(rankmap.core_pus(place) if whole_cores else place.pus)
    for socket in node.sockets:
        for index, core in enumerate(socket):
            text = "".join("B" if pu in mine else "." for pu in node.cores[core].pus)
            before = "[" if index == 0 else "/"
            after = "]" if index == len(socket) - 1 else ""
            yield [(before, None), (text, place.rank if "B" in text else None), (after, None)]


def plain(lines: Iterable[Line]) -> str:
    """The picture without colours."""
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)


def coloured(lines: Iterable[Line]) -> Iterator[Text]:
    """The picture for a rich console, one line after another."""
    from rich.text import Text

    for line in lines:
        made = Text(no_wrap=True, end="\n")
        for text, rank in line:
            made.append(text, style="" if rank is None else f"bold {colour(rank)}")
        yield made


def sentence(rankmap: RankMap) -> str:
    """The map in a line: ranks, nodes, cores."""
    sizes = sorted({len(place.cores) for place in rankmap.ranks})
    cores = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]}-{sizes[-1]}"
    threads = "all hardware threads" if rankmap.smt else "one thread a core"
    each = f"{cores} core" + ("s" if cores != "1" else "")
    where = f"{many(rankmap.size, 'rank')} on {many(rankmap.nodes, 'node')}"
    return f"{where}, {each} a rank, {threads}; rank 0 has cores {ranges(rankmap.ranks[0].cores)}"
