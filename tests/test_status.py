"""Every combination of what the scheduler says and what the record says, as one table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcflow.engines.status import Seen, State, settle
from hpcflow.jobs.record import Record

STARTED = Record("7", 0, "n1", "n[1-2]", 42, 90.0, 100.0, None, None, None, None)
ENDED = replace(STARTED, ended=160.0, exit_code=0, cpu_seconds=12.0)

RECORDS: dict[str, Record | None] = {
    "none": None,
    "started": STARTED,
    "told to end": replace(STARTED, signal="TERM"),
    "well": ENDED,
    "well after TERM": replace(ENDED, signal="TERM"),
    "exit 1": replace(ENDED, exit_code=1),
    "exit 255": replace(ENDED, exit_code=255, signal="255"),
    "TERM": replace(ENDED, exit_code=143, signal="TERM"),
    "KILL": replace(ENDED, exit_code=137, signal="KILL"),
    "SEGV": replace(ENDED, exit_code=139, signal="SEGV"),
    "of another job": replace(ENDED, job_id="6"),
}

# What the scheduler says, in the order of the columns; "-" means that it knows nothing of the task.
SEEN = ("-", "waiting", "pending", "running", "done", "failed", "timeout", "cancelled", "unknown")

# W waiting, P pending, R running, D done, F failed, T timeout, C cancelled, ? unknown
TABLE = """
                  -  W  P  R  D  F  T  C  ?
none              ?  W  P  R  ?  F  T  C  ?
started           ?  W  P  R  ?  F  T  C  ?
told to end       ?  W  P  R  ?  F  T  C  ?
well              D  W  P  D  D  ?  ?  ?  D
well after TERM   D  W  P  D  D  ?  ?  ?  D
exit 1            F  W  P  R  ?  F  T  C  F
exit 255          F  W  P  R  ?  F  T  C  F
TERM              C  W  P  R  ?  F  T  C  C
KILL              F  W  P  R  ?  F  T  C  F
SEGV              F  W  P  R  ?  F  T  C  F
of another job    ?  W  P  R  ?  F  T  C  ?
"""
LETTERS = {"W": "waiting", "P": "pending", "R": "running", "D": "done", "F": "failed", "T": "timeout"}
LETTERS |= {"C": "cancelled", "?": "unknown"}


def cells() -> list[tuple[str, str, str]]:
    rows = TABLE.strip("\n").splitlines()[1:]
    return [
        (row[:16].strip(), seen, LETTERS[letter])
        for row in rows
        for seen, letter in zip(SEEN, row[16:].split(), strict=True)
    ]


def test_the_table_has_every_combination() -> None:
    assert {seen for _, seen, _ in cells()} == {"-", *map(str, State)}
    assert {record for record, _, _ in cells()} == set(RECORDS)


@pytest.mark.parametrize(("record", "seen", "expected"), cells())
def test_both_witnesses_settle_the_state(record: str, seen: str, expected: str) -> None:
    said = Seen(None if seen == "-" else State(seen), job_id="7")
    state, reason = settle(said, RECORDS[record])
    assert str(state) == expected
    if state in (State.FAILED, State.UNKNOWN):
        assert reason, "a state that asks for a look says why"
    if state is State.DONE:
        assert reason == ""


@pytest.mark.parametrize("seen", [*State, None])
def test_nothing_is_done_without_a_record_of_a_good_end(seen: State | None) -> None:
    for record in RECORDS.values():
        state, _ = settle(Seen(seen, job_id="7"), record)
        assert state is not State.DONE or (record is not None and record.succeeded)


@pytest.mark.parametrize("state", [State.PENDING, State.WAITING, State.RUNNING, State.FAILED, State.TIMEOUT])
def test_the_schedulers_words_are_kept(state: State) -> None:
    assert settle(Seen(state, "in words"), None) == (state, "in words")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ("exit 1", "exit code 1 on n1"),
        ("exit 255", "exit code 255 on n1"),
        ("TERM", "ended by SIGTERM (cancelled, preempted or out of time) on n1"),
        ("KILL", "ended by SIGKILL (memory ran out?) on n1"),
        ("SEGV", "ended by SIGSEGV on n1"),
        ("told to end", "told to end by SIGTERM, and gone before it could record its end"),
    ],
)
def test_a_record_alone_is_put_into_words(record: str, words: str) -> None:
    assert settle(Seen(None), RECORDS[record])[1] == words


def test_a_scheduler_that_names_no_job_makes_no_record_anothers() -> None:
    assert settle(Seen(None), RECORDS["of another job"])[0] is State.DONE
