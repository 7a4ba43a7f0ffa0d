"""What a person is told about a failed job."""

import pytest

from zmflow.protocol.messages import JobStatus, JobSummary, TaskFailure, VertexStatus
from zmflow.runtime.job_client import job_failed_error

PLACE = {"host": "h1", "vertex_name": "map -> sink", "operator_name": "map", "subtask_index": 1}


def failed(failure: TaskFailure | None, restarts: int = 0) -> JobStatus:
    """The status of a job that failed this way."""
    summary = JobSummary("9f", "counts", "FAILED", 1, 2, 2, 0, 0, restarts)
    vertices = [VertexStatus("v1", "map -> sink", ["map", "sink"], 4, "default", [])]
    return JobStatus(1, 0, summary, "it failed", vertices, failure, 5)


@pytest.mark.parametrize(
    ("failure", "detail"),
    [
        (
            TaskFailure("user", "E: x", user_traceback="File a\nE: x\n", traceback="all", **PLACE),
            "File a\nE: x\nIn operator 'map', chain 'map -> sink', subtask 2/4, on host h1.",
        ),
        (TaskFailure("taskmanager", "gone", host="h1"), "On host h1."),
        (TaskFailure("user", "Line 2 is not JSON", traceback="our frames"), None),
        (TaskFailure("engine", "E: x", traceback="all frames\n"), "all frames"),
        (TaskFailure("slots", "no slots"), None),
        (None, "it failed"),
    ],
)
def test_detail_of_a_failure(failure, detail):
    """The user's traceback comes first, then the place; our frames only where we are at fault."""
    error = job_failed_error(failed(failure))
    assert error.detail == detail
    assert error.message.startswith("Job 'counts' failed")


@pytest.mark.parametrize(("restarts", "said"), [(0, ""), (1, "restarted once before"), (3, "3 times before")])
def test_a_job_that_may_not_restart_any_more_says_how_often_it_did_and_why_not_again(restarts, said):
    """Traceback, place and restarts are the detail; why there is no further one is the hint."""
    hint = "restart-strategy.fixed-delay.attempts allows 3 restarts."
    failure = TaskFailure("user", "E: x", user_traceback="Traceback", hint=hint, **PLACE)
    error = job_failed_error(failed(failure, restarts))
    lines = error.detail.splitlines()
    assert (lines[0], said in lines[-1], error.hint) == ("Traceback", True, hint)
    assert len(lines) == 2 + bool(restarts)
