"""Slots are declared, matched, offered and accepted; every slot has one owner at any time."""

from __future__ import annotations

from zmflow.coordination.effects import FromWorker, MessageReceived, Send, SendToJobManager
from zmflow.protocol.messages import (
    AcceptSlot,
    AllocateSlot,
    CancelJob,
    ClusterStatus,
    DataEndpoint,
    GetCluster,
    JobStatus,
    OfferSlot,
    Refused,
    RejectSlot,
    ResourceProfile,
    SlotFreed,
    SlotLost,
    TaskManagerStatus,
    WorkerReady,
)
from zmflow.testing.control_plane import Behaviour, ControlPlane

from .job_graphs import graph, pipeline, runs_on, submit, vertex
from .test_job_life import free_slots, run, status

ENDPOINT = DataEndpoint("h", "ipc://x", "")


def taskmanagers(cluster: ControlPlane) -> list[TaskManagerStatus]:
    """What clients are shown of the cluster."""
    client = cluster.add_client("asker")
    cluster.say(client, GetCluster(1, 1))
    cluster.settle()
    return client.last(ClusterStatus).taskmanagers


def test_a_repeated_offer_is_accepted_again_and_nothing_else():
    """The job has the slot already; it is only said once more."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, pipeline(1))
    allocation = cluster.workers[0].allocation_id
    sent = cluster.dispatcher.handle(_received(OfferSlot(1, allocation, 0, "j1", 7, ENDPOINT)), 0)
    assert [e.message for e in sent if isinstance(e, Send)] == [AcceptSlot(1, allocation)]
    assert status(cluster).summary.state == "RUNNING"


def _received(message):
    return MessageReceived(b"tm-1", message, 1)


def test_an_offer_nobody_waits_for_is_rejected():
    """The TaskManager ends the worker and offers the slot again."""
    cluster = ControlPlane([1])
    sent = cluster.dispatcher.handle(_received(OfferSlot(1, "a1-99", 0, "j1", 7, ENDPOINT)), 0)
    (reject,) = [effect.message for effect in sent if isinstance(effect, Send)]
    assert isinstance(reject, RejectSlot)
    assert reject.reason == "nobody waits for this slot"


def test_an_offer_that_is_not_answered_is_withdrawn():
    """After taskmanager.slot.timeout the TaskManager ends the worker and says that the slot is lost."""
    cluster = ControlPlane([1], settings={"taskmanager.slot.timeout": "2 s"})
    tm = cluster.taskmanagers["tm-1"]
    cluster.to_taskmanager("tm-1", AllocateSlot(1, "a1-9", 0, "j1", ResourceProfile(1, 1, 1)))
    effects = tm.brain.handle(FromWorker("a1-9", WorkerReady(0, "a1-9", 5, ENDPOINT)), 0)
    assert [type(e.message) for e in effects if isinstance(e, SendToJobManager)] == [OfferSlot]
    tm.cut = True
    cluster.advance(2_000)
    assert not tm.workers
    assert "its job did not take the slot within 2 s" in tm.brain.story("a1-9")[-2].sentence


def test_a_job_that_ends_while_its_slots_are_on_their_way_takes_none():
    """Workers that come too late are ended, and the slots are free."""
    cluster = ControlPlane([2], behaviour=lambda _s: Behaviour(becomes_ready=False))
    client = run(cluster, pipeline(2))
    worker = cluster.workers[0]
    cluster.say(client, CancelJob(1, 1, "j1"))
    cluster.settle()
    assert status(cluster).summary.state == "CANCELED"
    assert worker not in cluster.workers
    assert free_slots(cluster) == 2


def test_a_lost_pending_slot_is_asked_for_again():
    """With a restart strategy a worker that cannot start is tried again."""
    settings = {"restart-strategy.type": "fixed-delay", "restart-strategy.fixed-delay.attempts": "3"}
    cluster = ControlPlane([1], behaviour=lambda _s: Behaviour(becomes_ready=False))
    run(cluster, graph([vertex("a")], settings=settings))
    cluster.behaviour = runs_on
    cluster.to_dispatcher(b"tm-1", SlotLost(1, "a1-1", 0, "no memory to fork"))
    cluster.advance(1_000)
    end = status(cluster)
    assert (end.summary.state, end.summary.restarts) == ("RUNNING", 1)
    assert "no memory to fork" in end.exceptions[0].failure.summary


def test_idle_slots_go_back_before_the_job_ends():
    """A slot whose tasks have finished for good is kept for slot.idle.timeout, then somebody else's."""
    cluster = ControlPlane([2], behaviour=runs_on, settings={"slot.idle.timeout": "5 s"})
    run(cluster, graph([vertex("a"), vertex("b", 1, "other")]))
    worker = next(w for w in cluster.workers if any(t.vertex_id == "a" for t in w.live.values()))
    (attempt,) = worker.live
    cluster.from_worker(worker, worker.report(attempt, "FINISHED"))
    cluster.advance(4_999)
    assert free_slots(cluster) == 0
    cluster.advance(1)
    assert free_slots(cluster) == 1
    assert status(cluster).summary.state == "RUNNING"


def test_jobs_get_slots_by_priority_and_then_in_the_order_they_came():
    """Of three waiting jobs the important one goes first."""
    cluster = ControlPlane([1], behaviour=runs_on)
    client = run(cluster, graph([vertex("a")]), "j1")
    for name, priority in (("j2", "0"), ("j3", "0"), ("j4", "7")):
        cluster.say(client, submit(name, graph([vertex("a")], settings={"job.priority": priority})))
    cluster.settle()
    order = []
    for running in ("j1", "j4", "j2", "j3"):
        assert status(cluster, running).summary.state == "RUNNING", (running, order)
        order.append(running)
        cluster.say(client, CancelJob(1, 1, running))
        cluster.settle()


def test_a_large_job_is_not_starved_and_a_too_large_one_holds_up_nobody():
    """Who waits for slots the cluster has keeps its turn; who waits for TaskManagers does not."""
    cluster = ControlPlane([2], behaviour=runs_on)
    client = run(cluster, pipeline(1), "j1")
    for name, parallelism in (("huge", 9), ("large", 2), ("small", 1)):
        cluster.say(client, submit(name, pipeline(parallelism)))
    cluster.settle()
    states = [status(cluster, name).summary.state for name in ("huge", "large", "small")]
    assert states == ["CREATED", "CREATED", "CREATED"], "the free slot is kept for the large job"
    cluster.say(client, CancelJob(1, 1, "j1"))
    cluster.settle()
    assert status(cluster, "large").summary.state == "RUNNING"


def test_a_job_may_hold_so_many_slots_and_no_more():
    """The limit is the cluster's; a job cannot raise it for itself."""
    limit = {"slotmanager.number-of-slots-per-job.max": "2"}
    cluster = ControlPlane([4], settings=limit)
    client = run(cluster, pipeline(3, settings={"slotmanager.number-of-slots-per-job.max": "9"}))
    refused = client.all(Refused)[0]
    assert "needs 3 slots, and a job may hold 2" in refused.message


def test_slots_are_cut_to_what_a_sharing_group_asks_for():
    """A group with resources gets just those; what is left serves plain slots."""
    big = ResourceProfile(3_000, 6 * 2**30, 0)
    cluster = ControlPlane([4], behaviour=runs_on)
    run(cluster, graph([vertex("a", 1, "big"), vertex("b")], resources={"big": big}))
    (tm,) = taskmanagers(cluster)
    held = {slot.sharing_group: slot.resources for slot in tm.slots if slot.job_id}
    assert held["big"] == big
    assert held["default"] == ResourceProfile(1_000, 2 * 2**30, 2**29)
    assert tm.free_resources == ResourceProfile(0, 0, 2**31 - 2**29)
    assert {slot.state for slot in tm.slots} == {"allocated", "free"}


def test_a_request_that_can_never_fit_fails_at_once():
    """It names what was asked for and the largest on offer, and does not wait for the timeout."""
    cluster = ControlPlane([4], behaviour=runs_on)
    wish = ResourceProfile(64_000, external=(("gpu", 1),))
    client = run(cluster, graph([vertex("a", 1, "big")], resources={"big": wish}))
    end = client.last(JobStatus)
    assert end.summary.state == "FAILED"
    assert end.failure is not None
    assert "64 cores, 1 gpu" in end.failure.summary
    assert "the largest on offer is 4 cores, 8 GiB memory, 2 GiB managed memory" in end.failure.summary


def test_external_resources_have_one_owner():
    """Two slots with a GPU each get different ones; a third waits until one is free."""
    one = ResourceProfile(500, 2**30, 0, (("gpu", 1),))
    cluster = ControlPlane([], behaviour=runs_on)
    total = ResourceProfile(4_000, 8 * 2**30, 2 * 2**30, (("gpu", 2),))
    starts = []
    cluster.behaviour = lambda start: starts.append(start) or runs_on(start)
    cluster.add_taskmanager(4, total)
    cluster.settle()
    client = run(cluster, graph([vertex("a", 2, "g")], resources={"g": one}), "j1")
    assert [start.external for start in starts] == [{"gpu": [0]}, {"gpu": [1]}]
    cluster.say(client, submit("j2", graph([vertex("a", 1, "g")], resources={"g": one})))
    cluster.settle()
    assert status(cluster, "j2").summary.state == "CREATED"
    cluster.say(client, CancelJob(1, 1, "j1"))
    cluster.settle()
    assert status(cluster, "j2").summary.state == "RUNNING"
    assert starts[-1].external == {"gpu": [0]}


def test_a_late_taskmanager_keeps_its_tasks_and_gets_no_new_slots():
    """Silence of heartbeat.late makes it late, of heartbeat.timeout gone; a sign of life ends lateness."""
    cluster = ControlPlane([2, 2], behaviour=runs_on)
    client = run(cluster, pipeline(2))
    cluster.taskmanagers["tm-2"].cut = True
    cluster.advance(3_600)
    assert [tm.state for tm in taskmanagers(cluster)] == ["alive", "late"]
    cluster.say(client, submit("j2", pipeline(2)))
    cluster.settle()
    assert status(cluster, "j2").summary.state == "CREATED"
    assert status(cluster).summary.state == "RUNNING"
    cluster.taskmanagers["tm-2"].cut = False
    cluster.settle()
    assert [tm.state for tm in taskmanagers(cluster)] == ["alive", "alive"]
    assert status(cluster, "j2").summary.state == "RUNNING"


def test_a_taskmanager_stops_what_runs_before_its_leader_gives_it_up():
    """Heartbeats that are not answered end its lease at the latest when the leader ends its registration."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, pipeline(1))
    tm = cluster.taskmanagers["tm-1"]
    cluster.advance(1_500)
    tm.cut = True
    cluster.advance(4_500)
    assert not tm.workers, "5 s after the last heartbeat that was answered, sent at 1 s"


def test_a_taskmanager_that_cannot_register_gives_up():
    """After taskmanager.registration.timeout its process ends with a sentence."""
    cluster = ControlPlane([1], settings={"taskmanager.registration.timeout": "30 s"})
    tm = cluster.taskmanagers["tm-1"]
    tm.cut = True
    cluster.advance(60_000)
    (end,) = tm.given_up
    assert "could not register within 30 s" in end.refused.message


def test_freed_slots_of_other_tenures_are_ignored():
    """A SlotFreed for a slot that is in use changes nothing."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, pipeline(1))
    cluster.to_dispatcher(b"tm-1", SlotFreed(1, cluster.workers[0].allocation_id, 0))
    cluster.check()
    assert free_slots(cluster) == 0


def test_tasks_mode_evens_out_tasks():
    """With mode tasks narrow vertices do not all begin in the first slot, and TaskManagers carry the same."""
    job = graph(
        [vertex("wide", 4), vertex("left", 2), vertex("right", 2)],
        settings={"taskmanager.load-balance.mode": "tasks"},
    )
    cluster = ControlPlane([2, 2], behaviour=runs_on)
    run(cluster, job)
    assert [sum(len(slot.tasks) for slot in tm.slots) for tm in taskmanagers(cluster)] == [4, 4]
    assert [len(slot.tasks) for tm in taskmanagers(cluster) for slot in tm.slots] == [2, 2, 2, 2]


def test_an_idle_slot_of_another_profile_does_not_hold_what_a_missing_one_needs():
    """A job that waits for a plain slot gives back a large one it has no use for any more."""
    big = ResourceProfile(3_500, 7 * 2**30, 0)
    cluster = ControlPlane([2], behaviour=runs_on, settings={"slot.idle.timeout": "5 s"})
    settings = {"restart-strategy.type": "fixed-delay", "restart-strategy.fixed-delay.attempts": "9"}
    run(cluster, graph([vertex("a", 1, "big"), vertex("b")], settings=settings, resources={"big": big}))
    assert status(cluster).summary.state == "CREATED", "a large and a plain slot do not fit together"
    cluster.add_taskmanager(1)
    cluster.settle()
    assert status(cluster).summary.state == "RUNNING"
    worker = next(w for w in cluster.workers if any(t.vertex_id == "a" for t in w.live.values()))
    (attempt,) = worker.live
    cluster.from_worker(worker, worker.report(attempt, "FINISHED"))
    cluster.settle()
    cluster.stop("tm-2")
    cluster.advance(10_000)
    assert status(cluster).summary.state == "RUNNING", "the plain slot is cut where the large one was"
