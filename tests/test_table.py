"""Tables as text, on a terminal and as JSON."""

from __future__ import annotations

import io
import json
import math
import re

import pytest

from hpcflow.cli.table import Column, Table, print_json, print_table, text_of

TABLE = Table(
    (Column("name", "NAME"), Column("empty", "EMPTY"), Column("size", "SIZE", right=True), Column("why", "WHY")),
    (
        {"name": "a [red]b[/red]", "size": 1.0, "why": "x\x1b[31my\nz"},
        {"name": "long name", "size": 12345.678, "why": None},
    ),
)  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_text_is_aligned_and_leaves_out_what_is_empty_throughout() -> None:
    out = io.StringIO()
    print_table(TABLE, out)
    assert out.getvalue() == (
        "NAME             SIZE  WHY\n"
        "a [red]b[/red]      1  x\N{REPLACEMENT CHARACTER}[31my\N{REPLACEMENT CHARACTER}z\n"
        "long name       12346\n"
    )  # fmt: skip


def test_no_row_leaves_no_line() -> None:
    out = io.StringIO()
    print_table(Table(TABLE.columns, ()), out)
    assert out.getvalue().strip() == ""


def test_on_a_terminal_markup_and_control_characters_of_values_are_inert(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    print_table(TABLE, out)
    text = out.getvalue()
    assert "a [red]b[/red]" in text and "\x1b[31m" not in text
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 60 for line in text.splitlines())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (math.nan, ""),
        (0, "0"),
        (0.0, "0"),
        (3.14159265, "3.142"),
        (1234.5678, "1235"),
        (123456789.0, "123456789"),
        (1e-7, "1e-07"),
        (True, "True"),
        ("é ü", "é ü"),
    ],
)
def test_values_are_written_for_readers(value: object, text: str) -> None:
    assert text_of(value) == text


def test_json_is_one_document_with_null_for_what_is_no_number() -> None:
    out = io.StringIO()
    print_json({"a": math.nan, "b": [math.inf, 1.5, "x"], "c": {"d": (None, True)}}, out)
    assert json.loads(out.getvalue()) == {"a": None, "b": [None, 1.5, "x"], "c": {"d": [None, True]}}
