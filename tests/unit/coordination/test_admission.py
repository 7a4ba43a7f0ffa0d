"""What a leader refuses to take on."""

from __future__ import annotations

import pytest

from zmflow.coordination.admission import CHANNELS_MAX, TASKS_MAX, admit
from zmflow.errors import JobGraphError, ProtocolError
from zmflow.graph.job_graph import JobGraph, JobVertex, encode_job_graph
from zmflow.protocol.messages import Refused, RegisterTaskManager, ResourceProfile
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


def test_co_location_and_resources_are_taken():
    """What an ordinary client sends passes, whatever it uses."""
    job = graph(
        [
            vertex("a", 2, co_location="c", weights={"OPERATOR": 3, "STATE_BACKEND": 1}),
            vertex("b", 2, co_location="c"),
        ],
        resources={"default": ResourceProfile(500, 2**30, 2**20, (("gpu", 1),))},
    )
    assert admit("j1", encode_job_graph(job)) == job


@pytest.mark.parametrize(
    ("vertices", "words"),
    [
        (
            [vertex("a", co_location="c"), vertex("b", 1, "other", co_location="c")],
            "two slot sharing groups: 'vertex a' and 'vertex b'",
        ),
        (
            [vertex("a", 2, co_location="c"), vertex("b", 3, co_location="c")],
            "unequal parallelism: 'vertex a' and 'vertex b'",
        ),
    ],
)
def test_co_location_that_cannot_be_kept_is_refused(vertices: list[JobVertex], words: str):
    """The API refuses it, too, and says so earlier; a job made by hand comes here first."""
    with pytest.raises(JobGraphError, match=words):
        admit("j1", encode_job_graph(graph(vertices)))


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"other": ResourceProfile(500)}, "without vertices"),
        ({"default": ResourceProfile(-500)}, "CPU is -500"),
        ({"default": ResourceProfile(memory_bytes=2**60)}, "Memory is 1152921504606846976 bytes"),
        ({"default": ResourceProfile(managed_memory_bytes=-2)}, "Managed memory is -2"),
        ({"default": ResourceProfile(external=(("gpu", -1),))}, "'gpu' is -1"),
    ],
)
def test_slots_that_cannot_be_are_refused(resources: dict[str, ResourceProfile], words: str):
    """Amounts are bounded before any TaskManager is asked for them."""
    job = graph([vertex("a")], resources=resources)
    with pytest.raises(ProtocolError) as caught:
        admit("j1", encode_job_graph(job))
    assert words in str(caught.value)


@pytest.mark.parametrize("weights", [{"OPERATOR": 0}, {"OPERATOR": 2**31}, {"PYTHON": 1}])
def test_impossible_weights_of_managed_memory_are_refused(weights: dict[str, int]):
    """Shares are quotients of these numbers."""
    job = graph([vertex("a", weights=weights)])
    with pytest.raises(ProtocolError, match="impossible weight"):
        admit("j1", encode_job_graph(job))


def test_a_taskmanager_with_an_impossible_number_of_slots_is_refused():
    """Zero and millions are answered with what is allowed."""
    cluster = ControlPlane([1])
    resources = ResourceProfile(1000, 1000, 400)
    for slots in (0, 10**9):
        cluster.to_dispatcher(b"tm-1", RegisterTaskManager(1, "tm-1", "h", 1, slots, resources))
    cluster.settle()
    refused = [effect.refused for effect in cluster.taskmanagers["tm-1"].given_up]
    limits = "Allowed: 1 to 4096, with resources that are not negative."
    assert [isinstance(one, Refused) and one.detail for one in refused] == [limits] * 2
