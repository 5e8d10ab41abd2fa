"""From runs to a summary and an answer, as a user asks for it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import IMAGES, SPEED, settle, sweep

from hpcflow.errors import InputError
from hpcflow.jobs.rundir import RunDir
from hpcflow.report import aggregate, collect, groups, plots
from hpcflow.report.compare import compare
from hpcflow.report.results import Results, to_markdown
from hpcflow.report.study import Question, study
from runs import command, lay, training

PAGE = Path(__file__).resolve().parents[2] / "docs" / "results.md"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_summary_of_a_sweep(tmp_path: Path) -> None:
    run = sweep(tmp_path, noise=0.0, sigma=0.1)
    found = study(collect.table([run]), Question())
    assert [row["nodes"] for row in found.summary.rows] == [1, 2, 4, 8, 16]
    one, two = found.summary.rows[:2]
    assert (one["repeats"], one["not_done"], one["speedup"], one["efficiency"]) == (3, 0, 1.0, 1.0)
    assert two["images_per_s"] == pytest.approx(2 * SPEED / 1.1, rel=1e-3)
    assert two["images_per_s_per_core"] == pytest.approx(2 * SPEED / 1.1 / 8, rel=1e-3)
    assert two["speedup"] == pytest.approx(2 / 1.1, rel=1e-3) and two["efficiency"] == pytest.approx(
        1 / 1.1, rel=1e-3
    )
    train_s = 6 * IMAGES / two["images_per_s"]
    assert two["allreduce_share"] == pytest.approx(0.8 * (1 - 1 / 1.1), rel=1e-3)
    assert two["wall_s"] == pytest.approx(20 + 1.2 * train_s, rel=1e-3)
    assert two["core_hours"] == pytest.approx(two["wall_s"] * 8 / 3600, rel=1e-3)
    assert two["cost"] == pytest.approx(two["core_hours"] * 0.02, abs=1e-4)
    assert two["queue_s"] == 5.0 and two["cpu_efficiency"] == 0.8
    assert two["memory_efficiency"] == pytest.approx(3000 / (4096 * 2), abs=1e-3)
    assert two["baseline"] == one["configuration"]


def test_what_set_says_of_the_sweep_is_no_column(tmp_path: Path) -> None:
    run = sweep(tmp_path, sizes=(1, 2), repeats=1)
    about = json.loads(run.provenance.read_text()) | {"overridden": ["sweep.max_parallel", "training.epochs"]}
    run.provenance.write_text(json.dumps(about))
    table = collect.table([run])
    assert [name for name in table.columns if "." in name] == ["training.epochs", "resources.nodes"]
    assert table.values("training.epochs") == [8, 8] and table.values("resources.nodes") == [1, 2]


def test_repeats_differ_in_nothing_but_the_seed_and_trials_do(tmp_path: Path) -> None:
    rows = collect.table([sweep(tmp_path, sizes=(1, 2), repeats=3)]).rows
    assert [row["repeat"] for row in rows] == [0, 1, 2] * 2
    assert len({row["configuration"] for row in rows}) == 2
    assert [row["trial"] for row in rows] == [1] * 3 + [2] * 3


def test_single_runs_are_repeats_if_only_their_seed_differs(tmp_path: Path) -> None:
    runs = [
        lay(
            tmp_path,
            [training()],
            run_id=str(number),
            experiment={"training": {"seed": seed, "epochs": epochs}},
        )
        for number, (seed, epochs) in enumerate([(0, 3), (1, 3), (0, 4)])
    ]
    found = [row["configuration"] for row in collect.table(runs).rows]
    assert found[0] == found[1] != found[2]


def test_the_baseline_can_be_chosen(tmp_path: Path) -> None:
    table = collect.table([sweep(tmp_path, noise=0.0, sigma=0.0)])
    found = study(table, Question(baseline=("nodes=4",)))
    assert [round(row["speedup"], 2) for row in found.summary.rows] == [0.25, 0.5, 1.0, 2.0, 4.0]
    with pytest.raises(InputError, match="no row has these values"):
        study(table, Question(baseline=("nodes=3",)))
    with pytest.raises(
        InputError, match=r"expected KEY=VALUE with one of the keys nodes, ranks, cores, resources\.nodes"
    ):
        study(table, Question(baseline=("nonsense",)))


def test_series_are_compared_each_with_its_own_baseline(tmp_path: Path) -> None:
    runs = [
        sweep(tmp_path, name=name, sigma=sigma, noise=0.01) for name, sigma in (("good", 0.01), ("bad", 0.4))
    ]
    found = study(collect.table(runs), Question())
    assert len(found.series) == 2 and len(found.answers) == 2
    good, bad = (answer.recommendations[0].size for answer in found.answers)
    assert good == 16 and bad == 2


def test_what_did_not_end_well_is_left_out_and_said(tmp_path: Path) -> None:
    run = sweep(tmp_path, repeats=2)
    run.task("train-n2", 0).record.unlink()
    found = study(collect.table([run]), Question())
    assert [row["repeats"] for row in found.summary.rows] == [2, 1, 2, 2, 2]
    assert found.notes == (
        "1 of 10 rows did not end well, or have not ended: left out.",
        "Some configurations ran once: no interval can be given for them.",
    )


def test_a_table_of_nothing_is_no_error(tmp_path: Path) -> None:
    found = study(Results((), []), Question())
    assert found.summary.rows == [] and not found.answers


def test_keys_that_are_no_sizes_are_compared_without_a_law() -> None:
    rows = [
        {"experiment": "x", "configuration": str(threads), "state": "done", "nodes": 1, "threads.intra_op": threads,
         "images_per_s": 10.0 * threads + repeat}
        for threads in (1, 2) for repeat in range(3)
    ]  # fmt: skip
    columns = ("experiment", "configuration", "state", "nodes", "threads.intra_op", "images_per_s")
    (answer,) = study(Results(columns, rows), Question()).answers
    assert answer.sentences == [
        "Of what was measured, threads.intra_op = 2 was fastest: 1.9 times (1.7 to 2.2) the baseline."
    ]


def test_the_command_says_how_many_nodes(tmp_path: Path) -> None:
    run = sweep(tmp_path, noise=0.02, sigma=0.05, seed=1)
    got = command("report", run.path, "--summary", "--deadline", "00:02:00")
    assert got.returncode == 0 and got.stderr == ""
    assert (
        "Use 9 nodes (of the measured sizes 8): the most that keep parallel efficiency at 70 % or above"
        in got.stdout
    )
    assert "Cheapest within 0:02:00: 2 nodes, which take 0:01:3" in got.stdout and "EUR" in got.stdout
    document = json.loads(command("report", run.path, "--summary", "--json").stdout)
    law = document["scaling"][0]["speed"]["laws"]["Amdahl's law"]["sigma"]
    assert law["low"] < 0.05 < law["high"]
    printed = document["scaling"][0]["speed"]["parameters"]
    assert printed["sigma"]["low"] < 0.05 < printed["sigma"]["high"] and printed["kappa"]["low"] == 0
    assert document["scaling"][0]["recommendations"][0]["size"] == 9
    assert [row["nodes"] for row in document["summary"]] == [1, 2, 4, 8, 16]


def test_the_command_refuses_honestly(tmp_path: Path) -> None:
    got = command("report", sweep(tmp_path, sizes=(1, 2, 4)).path, "--summary", "--deadline", "10:00")
    assert got.returncode == 0
    assert "No size is recommended: 3 sizes were measured, and a law of scaling needs 4." in got.stdout
    assert "No size is recommended for a deadline of 0:10:00: 3 sizes" in got.stdout
    assert "4 nodes was fastest" in got.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--summary", "--deadline", "soon"), "--deadline soon: expected a time"),
        (("--summary", "--over", "cats"), "--over cats: expected one of nodes, ranks, cores"),
        (("-o", "x.xlsx"), "x.xlsx: the name must end with .csv, .json, .md, .parquet"),
        (("--against", "no-such-run"), "there is no run 'no-such-run'"),
        (("--against", "last", "-o", "x.csv"), "--output goes not with --against"),
        (("--against", "last", "--deadline", "10:00"), "--deadline goes not with --against"),
        (("--threshold", "0.1"), "--threshold is of --against"),
        (("--baseline", "x=2"), "--baseline needs one of --summary, --html, --plots"),
        (("--efficiency", "0.5", "--json"), "--efficiency needs one of --summary, --html, --plots"),
        (("--summary", "--efficiency", "2"), "--efficiency"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    run = sweep(tmp_path, sizes=(1, 2), repeats=1)
    got = command("report", run.path, *arguments, cwd=tmp_path)
    assert (
        (got.returncode, got.stdout) == (2, "") and sentence in got.stderr and "Traceback" not in got.stderr
    )


def test_every_format_holds_the_same(tmp_path: Path) -> None:
    run = sweep(tmp_path, sizes=(1, 2), repeats=2)
    for suffix in ("csv", "json", "md", "parquet"):
        assert command("report", run.path, "-o", tmp_path / f"r.{suffix}").returncode == 0
    expected = collect.table([run])
    with (tmp_path / "r.csv").open(newline="") as file:
        assert [row["images_per_s"] for row in csv.DictReader(file)] == [
            str(v) for v in expected.values("images_per_s")
        ]
    assert json.loads((tmp_path / "r.json").read_text()) == expected.records()
    parquet = pd.read_parquet(tmp_path / "r.parquet")
    assert list(parquet.columns) == list(expected.columns)
    assert parquet["images_per_s"].tolist() == expected.values("images_per_s")
    assert parquet["nodes"].tolist() == [1, 1, 2, 2] and parquet["state"].tolist() == ["done"] * 4
    lines = (tmp_path / "r.md").read_text().splitlines()
    assert (
        len(lines) == 6
        and lines[0].startswith("| experiment | run | job |")
        and lines[1].startswith("| --- |")
    )


def test_markdown_keeps_what_users_write_in_its_cell() -> None:
    text = to_markdown(Results(("a", "b"), [{"a": "x|y\n<script>`z`", "b": None}])).decode()
    assert text.splitlines()[2] == "| x&#124;y &lt;script>&#96;z&#96; |  |"


def against(tmp_path: Path, slower: float, noise: float = 0.01) -> tuple[RunDir, RunDir]:
    first = sweep(tmp_path / "a", sizes=(1, 2), repeats=5, noise=noise, seed=1)
    second = sweep(tmp_path / "b", sizes=(1, 2), repeats=5, noise=noise, seed=2, slower=slower)
    return first, second


def test_what_got_slower_is_told_with_its_interval_and_exit_code_1(tmp_path: Path) -> None:
    old, new = against(tmp_path, 1.2)
    got = command("report", new.path, "--against", old.path)
    assert got.returncode == 1
    assert got.stdout.count("WORSE") == 4 and "4 of 4 compared got worse beyond the threshold." in got.stdout
    document = json.loads(command("report", new.path, "--against", old.path, "--json").stdout)
    change = document["changes"][0]
    assert document["regressions"] == 4
    assert change["change_low"] < 1 / 1.2 - 1 < change["change_high"] and change["worse"]
    assert command("report", old.path, "--against", new.path).returncode == 0, "faster is no regression"
    assert command("report", new.path, "--against", old.path, "--threshold", "0.5").returncode == 0


def test_the_same_again_is_no_regression(tmp_path: Path) -> None:
    old, new = against(tmp_path, 1.0)
    got = command("report", new.path, "--against", old.path)
    assert got.returncode == 0 and "Nothing of 4 compared got worse" in got.stdout


def test_a_table_that_was_kept_is_as_good_as_its_run(tmp_path: Path) -> None:
    old, new = against(tmp_path, 1.3)
    for name in ("kept.csv", "kept.json"):
        command("report", old.path, "-o", tmp_path / name)
        assert command("report", new.path, "--against", tmp_path / name).returncode == 1
        assert command("report", old.path, "--against", tmp_path / name).returncode == 0
    (tmp_path / "kept.csv").write_text("a,b\n1,2\n")
    got = command("report", new.path, "--against", tmp_path / "kept.csv")
    assert got.returncode == 2 and "is no report: it lacks the columns" in got.stderr


def drawn(random: np.random.Generator, repeats: int, noise: float) -> Results:
    """Five configurations whose runs scatter about the same speed; a run's wall time follows its speed."""
    speeds = 100 * np.exp(random.normal(0, noise, (5, repeats)))
    rows = [
        {"experiment": "x", "configuration": str(number), "state": "done", "nodes": 1,
         "images_per_s": float(speed), "wall_s": 1000 / float(speed)}
        for number, row in enumerate(speeds) for speed in row
    ]  # fmt: skip
    return Results(tuple(rows[0]), rows)


@pytest.mark.parametrize("repeats", [3, 5])
def test_noise_is_no_regression_however_many_are_compared(repeats: int) -> None:
    """Two sides alike that scatter by a tenth: 5 % of comparisons at most call anything worse, of all their
    configurations together. (400 of them: 3 standard deviations more are 33.)
    """
    random = np.random.default_rng(repeats)
    alarms = sum(
        bool(compare(drawn(random, repeats, 0.1), drawn(random, repeats, 0.1)).regressions)
        for _ in range(400)
    )
    assert alarms <= 33


@pytest.mark.parametrize(("here", "there"), [(1, 3), (2, 5), (5, 1)])
def test_fewer_than_three_repeats_on_a_side_tell_nothing(here: int, there: int) -> None:
    random = np.random.default_rng(0)
    found = compare(drawn(random, here, 0.3), drawn(random, there, 0.3))
    assert len(found.changes) == 10 and not found.told and not found.regressions and not found.passed


def test_where_nothing_was_compared_nothing_passes(tmp_path: Path) -> None:
    """All tasks failed against a good run; and one configuration of it alone."""
    good = sweep(tmp_path / "a", sizes=(1, 2), repeats=3)
    for failed, sentence in (
        (("n1", "n2"), "Nothing was compared"),
        (("n2",), "Nothing of 2 compared got worse"),
    ):
        bad = sweep(tmp_path / "-".join(("b", *failed)), sizes=(1, 2), repeats=3)
        state = json.loads(bad.local_state.read_text())
        for key, task in state["tasks"].items():
            if key.startswith(tuple(f"train-{name}" for name in failed)):
                task["state"] = "failed"
                record = bad.task(key.partition("/")[0], int(key.partition("/")[2])).record
                record.write_text(record.read_text().replace('"exit_code": 0', '"exit_code": 1'))
        bad.local_state.write_text(json.dumps(state))
        settle(bad.path)
        got = command("report", bad.path, "--against", good.path)
        assert got.returncode == 1 and sentence in got.stdout, got.stdout
        assert f"Only in the other: {len(failed)} configuration" in got.stdout
        document = json.loads(command("report", bad.path, "--against", good.path, "--json").stdout)
        assert document["passed"] is False and document["compared"] == 4 - 2 * len(failed)


def test_a_baseline_that_failed_is_said_to_have_no_result() -> None:
    rows = [
        {"experiment": "x", "configuration": str(nodes), "state": "failed" if nodes == 1 else "done", "nodes": nodes,
         "images_per_s": 10.0 * nodes}
        for nodes in (1, 2, 4)
    ]  # fmt: skip
    (answer,) = study(Results(tuple(rows[0]), rows), Question()).answers
    assert (
        answer.sentences[0].startswith("The baseline has no result")
        and "--baseline KEY=VALUE" in answer.sentences[0]
    )


def test_experiments_of_one_report_are_told_apart(tmp_path: Path) -> None:
    runs = [sweep(tmp_path, name=name, sizes=(1, 2), repeats=2) for name in ("small", "large")]
    got = command("report", *(run.path for run in runs), "--summary")
    assert "small: No size is recommended" in got.stdout and "large: No size is recommended" in got.stdout
    assert "EXPERIMENT" in got.stdout
    assert "EXPERIMENT" not in command("report", runs[0].path, "--summary").stdout
    made = study(collect.table(runs), Question())
    labels = next(plot.figure.axes[0].get_legend_handles_labels()[1] for plot in plots.draw(made, runs))
    assert {"small", "large"} <= set(labels)


def test_a_report_of_very_many_series_answers_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcflow.report.study.MOST_ANSWERS", 3)
    rows = [
        {"experiment": f"x{number}", "configuration": str(nodes), "state": "done", "nodes": nodes,
         "images_per_s": 10.0 * nodes}
        for number in range(5) for nodes in (1, 2)
    ]  # fmt: skip
    made = study(Results(tuple(rows[0]), rows), Question())
    assert len(made.answers) == 3 and len(made.summary) == 10
    assert made.notes[-1] == "2 more series have their rows, but no law and no sentence: a report answers 3."


def test_a_summary_in_markdown_has_its_sentences(tmp_path: Path) -> None:
    run = sweep(tmp_path, sizes=(1, 2), repeats=2)
    got = command(
        "report", run.path, "--summary", "--json", "--plots", tmp_path / "p", "-o", tmp_path / "s.md"
    )
    json.loads(got.stdout)
    assert "scaling.svg" in got.stderr, "paths are notes"
    text = (tmp_path / "s.md").read_text()
    assert "|\n\nNo size is recommended: 2 sizes were measured" in text and "\nNote: With 2 repeats" in text


def test_what_one_of_the_two_lacks_is_said(tmp_path: Path) -> None:
    more = sweep(tmp_path / "a", sizes=(1, 2, 4), repeats=3)
    less = sweep(tmp_path / "b", sizes=(1, 2), repeats=3)
    assert (
        "Only in this report: 1 configuration." in command("report", more.path, "--against", less.path).stdout
    )
    assert (
        "Only in the other: 1 configuration." in command("report", less.path, "--against", more.path).stdout
    )


def test_the_page_prints_the_columns_of_the_summary() -> None:
    assert aggregate.markdown() in PAGE.read_text(encoding="utf-8")


def test_what_is_counted_is_what_differs() -> None:
    rows = [{"nodes": 1, "ranks": ranks, "cores_per_rank": 2} for ranks in (1, 2)]
    assert groups.unit_of(rows) == "ranks"
    assert groups.unit_of([{"nodes": 1, "ranks": 1, "cores_per_rank": cores} for cores in (1, 2)]) == "cores"
    assert groups.unit_of([{"nodes": 1}, {"nodes": 2}]) == "nodes"
    assert groups.unit_of([]) == "nodes"
