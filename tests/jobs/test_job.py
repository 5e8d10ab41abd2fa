import pytest

from hpcflow.errors import InputError
from hpcflow.jobs.job import After, Allocation, Job, JobGraph


def job(name: str, tasks: int | None = None, *after: After) -> Job:
    return Job(name, Allocation(nodes=2, cpus_per_task=3), ("true",), tasks=tasks, after=after)


def test_a_graph_survives_the_run_directory() -> None:
    graph = JobGraph((job("a"), job("b", 3, After("a")), job("c", 3, After("b", "task"), After("a", "any"))))
    again = JobGraph.from_json(graph.to_json())
    assert again.to_json() == graph.to_json()
    assert [(j.name, j.tasks, j.after, j.allocation) for j in again] == [
        (j.name, j.tasks, j.after, j.allocation) for j in graph
    ]
    assert again.size == 7


@pytest.mark.parametrize(
    ("jobs", "sentence"),
    [
        ([job("a", None, After("b")), job("b")], "a waits for b, which does not come before it"),
        ([job("a"), job("a")], "two jobs are called a"),
        ([job("a", 2), job("b", 3, After("a", "task"))], "another number"),
    ],
)
def test_what_is_no_graph_is_refused(jobs: list[Job], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        JobGraph(tuple(jobs))
