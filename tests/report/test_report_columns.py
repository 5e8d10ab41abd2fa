"""The columns, and the page that explains them."""

from __future__ import annotations

from pathlib import Path

from hpcflow.report import columns

PAGE = Path(__file__).resolve().parents[2] / "docs" / "results.md"


def test_the_page_prints_the_table_of_the_columns() -> None:
    assert columns.markdown() in PAGE.read_text(encoding="utf-8")


def test_overridden_keys_stand_where_their_placeholder_is() -> None:
    names = columns.names(("resources.nodes", "training.epochs"))
    assert names[9:12] == ["reason", "resources.nodes", "training.epochs"]
    assert columns.OVERRIDDEN not in names
    assert len(set(names)) == len(names)
