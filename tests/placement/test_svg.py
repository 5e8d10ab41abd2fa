"""The SVG picture as a browser draws it: no text runs out of its place, and everything that a node has is there."""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from cluster import require
from commands import hpcflow
from hpcflow.experiment.schema import Placement
from hpcflow.placement.rankmap import plan
from hpcflow.placement.sources import read
from hpcflow.placement.svg import svg
from hpcflow.placement.svg_node import label

NODES = Path(__file__).parent / "nodes"
# Of every text: its right edge, and that of the narrowest box that it begins in.
MEASURE = """<script>
const found = [];
for (const picture of document.querySelectorAll('svg')) {
  const boxes = [...picture.querySelectorAll('rect')].map(rect => rect.getBBox()).filter(box => box.height > 5);
  for (const text of picture.querySelectorAll('text')) {
    const own = text.getBBox(), x = own.x + 1, y = own.y + own.height / 2;
    const around = boxes.filter(b => b.x <= x && x <= b.x + b.width && b.y <= y && y <= b.y + b.height);
    found.push([text.textContent, own.x + own.width, Math.min(...around.map(b => b.x + b.width))]);
  }
}
document.title = JSON.stringify(found);
</script>"""


def drawn(tmp_path: Path, picture: str) -> list[tuple[str, float, float]]:
    """(text, its right edge, that of the box it is in) as chromium lays them out."""
    require("chromium")
    page = tmp_path / "page.html"
    page.write_text(f"<html><head><title></title></head><body>{picture}{MEASURE}</body></html>")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}/profile",
        "--dump-dom",
    ]
    browser = shutil.which("chromium") or "chromium"
    done = subprocess.run(
        [browser, *flags, f"file://{page}"], capture_output=True, text=True, check=True, timeout=120
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title
    return [tuple(row) for row in json.loads(title[1].replace("&amp;", "&"))]


def test_no_text_runs_out_of_its_place(tmp_path: Path) -> None:
    names = [
        f"compute-{i}.of-a-cluster-with-a-very-long-name.in-some-department.example.org" for i in range(3)
    ]
    crowded: dict[str, Any] = {"ranks_per_socket": 6, "cores_per_rank": 1, "oversubscribe": True}
    pictures = [
        svg(
            plan(Placement(**crowded), [read("2x1x2")] * 3, names), f"mpirun -H {','.join(names)} -np 36 prog"
        ),
        svg(plan(Placement(ranks_per_l3=1), [read(str(NODES / "hwloc2-numa-l3.xml"))], names[:1]), "x" * 300),
        svg(plan(Placement(ranks_per_node=1000, oversubscribe=True), [read("2x4x4"), read("1x1x1")])),
        svg(plan(Placement(gpus_per_rank=1), [read(str(NODES / "hwloc2-gpus.xml"))])),
    ]
    found = drawn(tmp_path, "".join(f"<div>{picture}</div>" for picture in pictures))
    assert len(found) > 80
    assert not [row for row in found if row[1] > row[2] + 0.5]


def test_threads_separators_and_gpus_are_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "a.svg"
    asked = ("--topology", NODES / "hwloc2-numa-l3.xml", "--ranks-per-l3", "1", "--launcher", "intelmpi")
    done = hpcflow("map", *asked, "--svg", picture)
    assert done.returncode == 0
    root = ET.parse(picture).getroot()
    node = read(str(NODES / "hwloc2-numa-l3.xml"))
    marks = [rect for rect in root.iter() if rect.get("height") == "2.6"]
    assert len(marks) == len(node.pus)
    assert len([mark for mark in marks if mark.get("fill-opacity")]) == len(node.pus) - len(
        node.cores
    )  # no smt
    bars = [path for path in root.iter() if path.tag.endswith("path")]
    groups, numa = len(node.domains("l3")), len(node.domains("numa"))
    assert len(bars) == groups - len(node.sockets)
    assert len([bar for bar in bars if not bar.get("stroke-dasharray")]) == numa - len(node.sockets)
    gpus = svg(plan(Placement(ranks_per_node=2, gpus_per_rank=1), [read(str(NODES / "hwloc2-gpus.xml"))]))
    assert {">cuda0: 1<", ">cuda1: 0<"} <= set(re.findall(r">cuda[^<]*<", gpus))


def test_many_ranks_of_a_core_are_told_as_large_as_they_fit() -> None:
    assert label([0, 1, 2, 3, 4, 5], 18)[0] == ["0-5"]
    assert label([1, 5, 9, 13], 18)[0] == ["1 5", "9 13"]
    assert label(list(range(0, 400, 4)), 18)[0] == ["100x"]
    assert label([], 18) == ([], 0.0)
