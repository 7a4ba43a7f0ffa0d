"""Which shared files are deleted, and when: never one that a kept checkpoint needs, and all in the end."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zmflow.coordination.checkpoints.shared_files import SharedFiles
from zmflow.protocol.checkpoints import SharedFile, StateFile
from zmflow.protocol.messages import CancelJob
from zmflow.testing.control_plane import ControlPlane

from .checkpointed import EVERY_SECOND, behaves, checkpoints, triggered
from .job_graphs import edge, graph, vertex
from .test_checkpoints import IN_DIRECTORY, acknowledge
from .test_job_life import run

TASKS = 3
RETAINED = 2


def fresh(name: str) -> SharedFile:
    return SharedFile(name, 10, True)


def again(name: str) -> SharedFile:
    return SharedFile(name, 10, False)


def test_a_file_goes_with_the_last_checkpoint_that_uses_it() -> None:
    """Whichever that is."""
    files = SharedFiles()
    assert files.use(1, "/c/chk-1", [fresh("a"), fresh("b")]) == ""
    assert files.use(2, "/c/chk-2", [again("a"), fresh("c")]) == ""
    assert files.drop(1) == {"/c/chk-1": ["b"]}
    assert files.drop(2) == {"/c/chk-1": ["a"], "/c/chk-2": ["c"]}
    assert not files.names()


def test_what_is_gone_cannot_be_used_again() -> None:
    """Nothing of such a part is noted: its checkpoint is given up."""
    files = SharedFiles()
    files.use(1, "/c/chk-1", [fresh("a")])
    files.drop(1)
    assert files.use(2, "/c/chk-2", [fresh("b"), again("a")]) == "a"
    assert not files.names()


class Histories(RuleBasedStateMachine):
    """Tasks, a coordinator and a storage. What tasks believe is as late as it can be, their parts of two
    checkpoints are under way at once, and any of it may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.files = SharedFiles()
        self.stored: set[str] = set()
        self.live: list[list[str]] = [[] for _ in range(TASKS)]  # contents of each task's backend, by name
        self.safe: list[dict[str, str]] = [{} for _ in range(TASKS)]  # what they may name again: the file
        self.parts: dict[int, dict[int, dict[str, str]]] = {}  # of checkpoints under way, by task
        self.kept: dict[int, dict[int, dict[str, str]]] = {}
        self.ours = True
        self.numbers = 0

    def _number(self) -> int:
        self.numbers += 1
        return self.numbers

    def _delete(self, checkpoint: int) -> None:
        for names in self.files.drop(checkpoint).values():
            assert self.stored.issuperset(names), "deleted twice"
            self.stored.difference_update(names)

    def _give_up(self, checkpoint: int) -> None:
        del self.parts[checkpoint]
        self._delete(checkpoint)

    @rule(task=st.integers(0, TASKS - 1), compacted=st.booleans())
    def write(self, task: int, compacted: bool) -> None:
        """A backend has a new file, in place of all others or beside them."""
        self.live[task] = [*([] if compacted else self.live[task]), f"content {self._number()}"]

    @precondition(lambda self: len(self.parts) < 2)
    @rule()
    def trigger(self) -> None:
        """One more checkpoint is under way."""
        self.parts[self._number()] = {}

    @precondition(lambda self: self.parts)
    @rule(data=st.data(), task=st.integers(0, TASKS - 1), arrives=st.booleans())
    def take_part(self, data: st.DataObject, task: int, arrives: bool) -> None:
        """A task writes its part. That is acknowledged, or comes when nobody waits for it."""
        checkpoint = data.draw(st.sampled_from(sorted(self.parts)))
        if task in self.parts[checkpoint]:
            return
        named = {c: self.safe[task].get(c) or f"{task}-{checkpoint}-{c}" for c in self.live[task]}
        new = [name for content, name in named.items() if content not in self.safe[task]]
        self.stored.update(new)
        shared = [SharedFile(name, 10, name in new) for name in named.values()]
        gone = self.files.use(checkpoint, "/c", shared) if arrives else "nobody waits"
        if not gone:
            self.parts[checkpoint][task] = named
            return
        self.stored.difference_update(new)  # what was written for a refused part is deleted
        self._give_up(checkpoint)

    @precondition(lambda self: self.parts)
    @rule(data=st.data(), told=st.sets(st.integers(0, TASKS - 1)))
    def complete(self, data: st.DataObject, told: set[int]) -> None:
        """All parts are there: older ones are given up, and the oldest that is kept goes."""
        checkpoint = data.draw(st.sampled_from(sorted(self.parts)))
        if len(self.parts[checkpoint]) < TASKS:
            return
        self.kept[checkpoint] = self.parts.pop(checkpoint)
        for older in [number for number in self.parts if number < checkpoint]:
            self._give_up(older)
        for task in told:
            self.safe[task] = self.kept[checkpoint][task]
        while len(self.kept) > RETAINED:
            oldest = min(self.kept)
            del self.kept[oldest]
            self._delete(oldest)

    @precondition(lambda self: self.parts)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        """A checkpoint is given up."""
        self._give_up(data.draw(st.sampled_from(sorted(self.parts))))

    @precondition(lambda self: self.kept)
    @rule()
    def restart(self) -> None:
        """All tasks go on from the newest one that is kept."""
        for checkpoint in list(self.parts):
            self._give_up(checkpoint)
        newest = self.kept[max(self.kept)]
        self.safe = [dict(newest[task]) for task in range(TASKS)]
        self.live = [list(newest[task]) for task in range(TASKS)]

    @precondition(lambda self: self.kept)
    @rule(claim=st.booleans())
    def begin_again(self, claim: bool) -> None:
        """Another job begins from the newest one, and owns it or not; it names none of its files."""
        for checkpoint in list(self.parts):
            self._give_up(checkpoint)
        newest = max(self.kept)
        held = self.kept[newest]
        self.files, self.parts, self.kept, self.stored = SharedFiles(), {}, {}, set()
        self.live = [list(held[task]) for task in range(TASKS)]
        self.safe = [{} for _ in range(TASKS)]
        if claim:
            self.kept = {newest: held}
            self.stored = {name for part in held.values() for name in part.values()}
            self.files.claim(newest, "/old", [again(name) for name in sorted(self.stored)])

    @invariant()
    def what_is_kept_is_whole(self) -> None:
        """Nothing that a kept checkpoint or one under way consists of is deleted, and nothing is left."""
        self.files.check()
        every = [*self.kept.values(), *self.parts.values()]
        needed = {name for parts in every for part in parts.values() for name in part.values()}
        assert needed == self.stored == self.files.names()

    def teardown(self) -> None:
        """When all is dropped nothing is left."""
        for checkpoint in [*self.parts, *self.kept]:
            self._delete(checkpoint)
        assert self.stored == set()


def part_of(*shared: SharedFile) -> StateFile:
    return StateFile("v-0-0.state", 30_000, b"", False, list(shared), "rocksdb")


def begun(retention: str = "NO_EXTERNALIZED_CHECKPOINTS") -> ControlPlane:
    """A cluster whose first checkpoint waits for its tasks."""
    cluster = ControlPlane([2], behaviour=behaves(snapshots=False))
    tolerant = {
        "execution.checkpointing.tolerable-failed-checkpoints": "9",
        "execution.checkpointing.externalized-checkpoint-retention": retention,
    }
    both = [vertex("s"), vertex("t")]
    run(cluster, graph(both, [edge("s", "t")], {**EVERY_SECOND, **IN_DIRECTORY, **tolerant}))
    cluster.advance(600)
    assert triggered(cluster, 1)
    return cluster


def deleted(cluster: ControlPlane) -> list[tuple[str, tuple[str, ...]]]:
    return [(order.location, order.names) for order in cluster.discarded]


def test_files_that_a_newer_checkpoint_names_survive_the_older_one() -> None:
    """Those that it does not name are deleted with the older one, and all with the job."""
    cluster = begun()
    acknowledge(cluster, "s", 1)
    acknowledge(cluster, "t", 1, state=part_of(fresh("a"), fresh("b")))
    cluster.advance(1_000)
    acknowledge(cluster, "s", 2)
    acknowledge(cluster, "t", 2, state=part_of(again("a"), fresh("c")))
    assert [record.state for record in checkpoints(cluster)] == ["COMPLETED", "COMPLETED"]
    assert deleted(cluster) == [("/c/j1/chk-1", ()), ("/c/j1/chk-1", ("../shared/b",))]
    cluster.say(cluster.add_client(), CancelJob(1, 1, "j1"))
    cluster.advance(1_000)
    assert deleted(cluster)[2:] == [
        ("/c/j1/chk-2", ()),
        ("/c/j1/chk-1", ("../shared/a",)),
        ("/c/j1/chk-2", ("../shared/c",)),
        ("/c/j1/shared", ()),
        ("/c/j1", ()),
    ]


def test_what_nobody_has_heard_of_goes_where_checkpoints_outlive_their_job() -> None:
    """A task that was killed has told nobody what it had written; what is kept needs the rest."""
    cluster = begun("RETAIN_ON_CANCELLATION")
    acknowledge(cluster, "s", 1)
    acknowledge(cluster, "t", 1, state=part_of(fresh("a"), fresh("b")))
    cluster.advance(1_000)
    acknowledge(cluster, "t", 2, state=part_of(again("a"), fresh("c")))
    cluster.say(cluster.add_client(), CancelJob(1, 1, "j1"))
    cluster.advance(1_000)
    (swept,) = (order for order in cluster.discarded if order.location == "/c/j1/shared")
    assert (swept.names, swept.kept) == ((), {"a", "b"})
    assert "/c/j1/chk-1" not in [location for location, names in deleted(cluster) if not names]


def test_what_was_written_for_a_given_up_checkpoint_is_deleted() -> None:
    """Also what comes when nobody waits for it any more; but not what others have written."""
    cluster = begun()
    acknowledge(cluster, "s", 1, state=part_of(fresh("a")))
    cluster.advance(3_000)
    assert checkpoints(cluster)[0].state == "ABORTED"
    assert deleted(cluster) == [("/c/j1/chk-1", ()), ("/c/j1/chk-1", ("../shared/a",))]
    acknowledge(cluster, "t", 1, state=part_of(fresh("b"), again("x")))
    assert deleted(cluster)[2:] == [("/c/j1/chk-1", ("v-0-0.state", "../shared/b"))]


def test_a_checkpoint_that_names_what_is_gone_is_given_up() -> None:
    """Whatever the task believed. The job goes on, and the next one can be complete."""
    cluster = begun()
    acknowledge(cluster, "t", 1, state=part_of(fresh("a"), again("gone")))
    record = checkpoints(cluster)[0]
    assert (record.state, "gone" in record.failure) == ("ABORTED", True)
    assert ("/c/j1/chk-1", ("v-0-0.state", "../shared/a")) in deleted(cluster)
    cluster.advance(1_000)
    for name in "st":
        acknowledge(cluster, name, 2)
    assert checkpoints(cluster)[-1].state == "COMPLETED"


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
