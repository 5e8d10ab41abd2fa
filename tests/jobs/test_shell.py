"""Quoting, judged by the shell itself."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcflow.errors import RunError
from hpcflow.jobs import shell

TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=40)
HOSTILE = [
    "a b",
    "$(touch x)",
    "`id`",
    ";rm -rf /",
    "it's",
    '"',
    "\\",
    "*",
    "&&",
    "!x",
    "~/x",
    "#",
    "$HOME",
    "-n",
]


def echoed(*words: str, env: dict[str, str] | None = None) -> list[str]:
    script = "printf '%s\\0' " + " ".join(words)
    out = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env=env or {}).stdout
    return out.decode().split("\0")[:-1]


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXT, min_size=20, max_size=40))
def test_words_reach_a_program_as_they_are(texts: list[str]) -> None:
    texts += HOSTILE
    assert echoed(*map(shell.word, texts)) == texts


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXT.map(lambda text: text.replace("$", "").lstrip("~")), min_size=20, max_size=40))
def test_a_path_expands_variables_and_nothing_else(texts: list[str]) -> None:
    values = {"HOME": "/home/me", "P": "a b;$(x)"}
    paths = [f"/x/{text}/${{P}}/$P" for text in texts]
    assert echoed(*map(shell.path, paths), env=values) == [f"/x/{text}/a b;$(x)/a b;$(x)" for text in texts]
    assert [shell.expand(path, values) for path in paths] == echoed(*map(shell.path, paths), env=values)


def test_command_substitution_in_a_path_is_inert() -> None:
    paths = [
        "/a/$(touch x)",
        "/a/`touch x`",
        "/a/$((1+1))",
        "/a/${x:-$(touch x)}",
        "~/b",
        "~root/b",
        "/$HOME;id",
    ]
    expected = [
        "/a/$(touch x)",
        "/a/`touch x`",
        "/a/$((1+1))",
        "/a/${x:-$(touch x)}",
        "/h/b",
        "~root/b",
        "//h;id",
    ]
    assert echoed(*map(shell.path, paths), env={"HOME": "/h"}) == expected
    assert [shell.expand(path, {"HOME": "/h"}) for path in paths] == expected


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(RunError, match="SCRATCH is not set"):
        shell.expand("/x/$SCRATCH", {})


def test_a_late_word_is_the_variable_in_quotes() -> None:
    assert echoed(shell.word(shell.Variable("X")), env={"X": "a b *"}) == ["a b *"]
