"""What a leader refuses to take on."""

from __future__ import annotations

import pytest

from zmflow.coordination.admission import CHANNELS_MAX, TASKS_MAX, admit
from zmflow.errors import JobGraphError, ProtocolError
from zmflow.graph.job_graph import JobGraph, encode_job_graph
from zmflow.protocol.messages import Refused, RegisterTaskManager
from zmflow.testing.control_plane import ControlPlane

from .job_graphs import edge, graph, pipeline, vertex


def test_an_ordinary_job_is_taken():
    """It comes back decoded."""
    assert admit("9f", encode_job_graph(pipeline(2))) == pipeline(2)


@pytest.mark.parametrize("job_id", ["", "../../etc", "a/b", "a" * 65, "a b", "ü"])
def test_an_id_that_is_no_plain_word_is_refused(job_id: str):
    """Ids become file names on TaskManagers."""
    with pytest.raises(ProtocolError, match="plain word"):
        admit(job_id, encode_job_graph(pipeline()))


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (graph([vertex(f"v{i}", 32768) for i in range(4)]), f"limit is {TASKS_MAX}"),
        (pipeline(2001), f"limit is {CHANNELS_MAX}"),
    ],
)
def test_a_job_that_would_fill_the_leaders_memory_is_refused(job: JobGraph, words: str):
    """The size and the limit are said before anything is built."""
    with pytest.raises(JobGraphError) as caught:
        admit("j1", encode_job_graph(job))
    assert words in str(caught.value)
    assert "'job'" in caught.value.message


def test_gate_numbers_are_bounded_by_the_edges():
    """A gate numbered 2^60 would make the leader count up to it."""
    job = graph([vertex("a"), vertex("b")], [edge("a", "b", index=2**60)])
    with pytest.raises(ProtocolError, match="gates"):
        admit("j1", encode_job_graph(job))


def test_an_edge_that_is_named_twice_is_refused():
    """A worker could not tell its outputs apart."""
    job = graph([vertex("a"), vertex("b")], [edge("a", "b"), edge("a", "b")])
    with pytest.raises(ProtocolError, match="twice"):
        admit("j1", encode_job_graph(job))


def test_a_taskmanager_with_an_impossible_number_of_slots_is_refused():
    """Zero and millions are answered with what is allowed."""
    cluster = ControlPlane([1])
    for slots in (0, 10**9):
        cluster.to_dispatcher(b"tm-1", RegisterTaskManager(1, "tm-1", "h", 1, slots))
    cluster.settle()
    refused = [effect.refused for effect in cluster.taskmanagers["tm-1"].given_up]
    assert [isinstance(one, Refused) and one.detail for one in refused] == ["Allowed: 1 to 4096."] * 2
