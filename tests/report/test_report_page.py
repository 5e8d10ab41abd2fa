"""Plots and the page: what they hold, and how a real browser shows it on a phone, on a desk and on paper."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic import settle, sweep

from hpcflow.jobs.rundir import RunDir
from hpcflow.report import collect, look, page, plots
from hpcflow.report.study import Question, Study, study

NAMES = ("scaling", "efficiency", "time", "learning")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, RunDir]:
    run = sweep(tmp_path_factory.mktemp("runs"), name="unet", kappa=0.003, noise=0.04)
    return study(collect.table([run]), Question(deadline=120.0)), run


@pytest.fixture(scope="module")
def html(made: tuple[Study, RunDir], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("it's $(a page)") / "page.html"
    page.write(made[0], [made[1]], path)
    return path


def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "no chromium installed; as root, scripts/test installs it"
        pytest.fail(reason, pytrace=False) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return found


def chromium(tmp_path: Path, *arguments: str) -> str:
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path}/profile",
    )
    return subprocess.run(
        [browser(), *flags, *arguments], capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_plots_are_the_same_bytes_each_time(made: tuple[Study, RunDir], tmp_path: Path) -> None:
    first, second = (plots.write(made[0], [made[1]], tmp_path / name) for name in ("a", "b c"))
    assert [path.name for path in first] == [f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    png = first[0].read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", png[16:24]) == (960, 600)


def test_axes_are_labelled_with_units_and_series_differ_in_more_than_colour(
    made: tuple[Study, RunDir],
) -> None:
    labels = {
        plot.name: (plot.figure.axes[0].get_xlabel(), plot.figure.axes[0].get_ylabel())
        for plot in plots.draw(made[0], [made[1]])
    }
    assert labels == {
        "scaling": ("nodes", "images/s"),
        "efficiency": ("nodes", "efficiency against the baseline (%)"),
        "time": ("seconds (median over repeats)", ""),
        "learning": ("epoch", "validation Dice (0 to 1)"),
    }
    assert len(set(look.COLOURS)) == len(look.COLOURS) == len(set(look.MARKERS))


class Ids(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]


def test_the_page_needs_nothing_but_itself(html: Path) -> None:
    text = html.read_text()
    found = Ids(text)
    assert len(found.ids) == len(set(found.ids)), "names of drawings do not clash"
    assert all(link.startswith("#") for link in found.links)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert found.tags.count("svg") == 4 and text.count('role="img"') == 4
    assert "url(http" not in text and "@import" not in text
    references = set(re.findall(r"url\(#([^)]+)\)", text))
    assert references <= set(found.ids)


def test_text_from_runs_is_text(tmp_path: Path) -> None:
    run = sweep(tmp_path, sizes=(1, 2), repeats=1)
    task = run.task("train-n1", 0)
    record = (
        task.record.read_text()
        .replace('"exit_code": 0', '"exit_code": 1')
        .replace('"n1"', '"<script>alert(1)</script>&amp;"')
    )
    task.record.write_text(record)
    state = run.local_state
    state.write_text(
        state.read_text().replace('"train-n1/0": {"state": "done"', '"train-n1/0": {"state": "failed"')
    )
    settle(run.path)
    text = page.render(study(collect.table([run]), Question()), [run])
    assert "<script" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;" in text


def test_nobody_and_no_folder_is_named(html: Path, made: tuple[Study, RunDir]) -> None:
    text = html.read_text()
    assert str(made[1].path.parent) not in text and "/x/bin" not in text
    assert "hpcflow submit unet.yaml" in text and "4.1.8" in text


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_a_browser_shows_it_at_every_width(html: Path, tmp_path: Path, width: int) -> None:
    """Nothing sticks out of the window: wide tables scroll within themselves. The policy that forbids scripts is taken
    out of a copy, so that one can measure; an iframe has the width, since windows have a least one.
    """
    measure = (
        "<script>addEventListener('load', () => { const d = document.documentElement;"
        "const out = [...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().right > innerWidth + 1);"
        "const cells = document.querySelectorAll('td').length;"
        "parent.document.title = [d.scrollWidth, innerWidth, out.length, cells].join(' ');"
        "});</script>"
    )
    text = re.sub(r"<meta http-equiv[^>]*>", "", html.read_text()).replace("</body>", f"{measure}</body>")
    (tmp_path / "inner.html").write_text(text)
    (tmp_path / "outer.html").write_text(
        f'<iframe src="inner.html" width="{width}" height="800" frameborder="0"></iframe>'
    )
    dom = chromium(
        tmp_path, "--allow-file-access-from-files", "--virtual-time-budget=3000", "--window-size=1400,900",
        "--dump-dom", f"file://{tmp_path}/outer.html",
    )  # fmt: skip
    found = re.search(r"<title>(\d+) (\d+) (\d+) (\d+)</title>", dom)
    assert found, dom[:500]
    content, window, sticking_out, cells = map(int, found.groups())
    assert window == width and content <= width and sticking_out == 0 and cells > 100


def test_a_browser_loads_nothing_and_complains_of_nothing(html: Path, tmp_path: Path) -> None:
    copy = tmp_path / "page.html"
    shutil.copy(html, copy)
    log = subprocess.run(
        [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
         f"--user-data-dir={tmp_path}/profile", "--dump-dom", f"file://{copy}"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "CONSOLE" not in log.stderr, "the policy or the markup was complained about"
    assert ": the most that keep parallel efficiency" in log.stdout and "Where this comes from" in log.stdout


def test_it_prints_on_two_pages(html: Path, tmp_path: Path) -> None:
    copy, pdf = tmp_path / "page.html", tmp_path / "page.pdf"
    shutil.copy(html, copy)
    chromium(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", f"file://{copy}")
    data = pdf.read_bytes()
    assert data[:5] == b"%PDF-" and 1 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 4


def test_no_table_is_wider_than_the_paper(html: Path, tmp_path: Path) -> None:
    """The rules of print, on a window as wide as what the margins of a landscape page leave: 273 mm are 1031 px."""
    text = re.sub(r"<meta http-equiv[^>]*>", "", html.read_text())
    text = text.replace("@media print {", "@media all {").replace(
        "</body>",
        "<script>addEventListener('load', () => { document.title = ["
        "...document.querySelectorAll('table')].map(t => Math.ceil(t.getBoundingClientRect().right)).join(' ');"
        "});</script></body>",
    )
    (tmp_path / "print.html").write_text(text)
    dom = chromium(
        tmp_path,
        "--virtual-time-budget=3000",
        "--window-size=1031,700",
        "--dump-dom",
        f"file://{tmp_path}/print.html",
    )
    found = re.search(r"<title>([\d ]+)</title>", dom)
    assert found, dom[:500]
    widths = list(map(int, found[1].split()))
    assert len(widths) == 3 and max(widths) <= 1031
