"""The scheduler of one job: it declares slots, takes what is offered, puts subtasks into them, deploys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from zmflow.config import Settings
from zmflow.config.checkpoint_options import LOCAL_BACKUP
from zmflow.config.options import (
    CONSUMER_WEIGHTS,
    LOAD_BALANCE_MODE,
    SLOT_IDLE_TIMEOUT,
    SLOT_REQUEST_TIMEOUT,
)
from zmflow.coordination.deployment import Wiring
from zmflow.coordination.execution_graph import Execution
from zmflow.coordination.job_file_shipments import JobFileShipments
from zmflow.coordination.job_layout import JobLayout, without_code
from zmflow.coordination.registered_taskmanager import RegisteredTaskManager, Slot
from zmflow.coordination.requirements import NOTHING, Requirements, count_profiles
from zmflow.coordination.resource_manager import ResourceManager
from zmflow.coordination.slot_assignment import assign_slots
from zmflow.coordination.slot_pool import SlotPool
from zmflow.coordination.slots import PhysicalSlot, SharedSlot, Subtask
from zmflow.coordination.turn import Turn
from zmflow.graph.job_graph import JobGraph
from zmflow.graph.sharing import slots_by_group
from zmflow.ids import JobId
from zmflow.protocol.checkpoints import SubtaskRestore
from zmflow.protocol.messages import DeployTasks, OfferSlot, ResourceProfile

__all__ = ["Scheduler"]


class Scheduler:
    """The default scheduler: a job runs at the parallelism it was written with, or waits.

    Args:
        settings: the cluster's settings under those of the job.
    """

    restarts_everything = False
    """Whether a failure restarts all tasks, whatever the failover strategy."""

    def __init__(
        self, job_id: JobId, graph: JobGraph, settings: Settings, resources: ResourceManager
    ) -> None:
        self.job_id = job_id
        self.graph = graph
        self.mode = settings[LOAD_BALANCE_MODE]
        self.pool = SlotPool(settings[SLOT_IDLE_TIMEOUT])
        self.layout = self._lay_out(graph)
        self._resources = resources
        self._files = JobFileShipments(job_id, graph.files, resources, copies=settings[LOCAL_BACKUP])
        self._memory_weights = settings[CONSUMER_WEIGHTS]
        self.wait_timeout_ms = settings[SLOT_REQUEST_TIMEOUT]
        self._waits_since_ms: int | None = None
        self._wiring: Wiring | None = None
        self._withdrawn = False
        self.pinned = False
        """Whether its tasks must stay where they are: they cannot restart."""
        self.restores: Callable[[JobLayout, Sequence[Subtask]], dict[Subtask, SubtaskRestore]] = (
            lambda _layout, _subtasks: {}
        )
        """What subtasks that are being deployed are restored from."""
        self.draining: dict[str, None] = {}
        """TaskManagers that are being emptied and hold slots of the job."""

    def _lay_out(self, graph: JobGraph) -> JobLayout:
        return JobLayout(self.job_id, graph, even=self.mode == "tasks")

    def adopt(self, graph: JobGraph) -> None:
        """The job, of which nothing is scheduled yet, has these key groups."""
        self.graph = graph
        self.layout = self._lay_out(graph)
        self._wiring = None

    def rescale(self, turn: Turn, graph: JobGraph) -> None:
        """All tasks have stopped, and are to go on as in this graph, which differs in its parallelism."""
        self.graph = graph
        self._lay_out_anew(turn, graph)

    def _lay_out_anew(self, turn: Turn, graph: JobGraph) -> None:
        old = self.layout
        assert not any(execution.deployed for execution in old.executions.executions())
        for shared in old.sharing:
            if shared.physical is not None:
                slot = self.vacate(shared, turn.now_ms)
                if slot.draining:
                    self.give_back(turn, slot)
        self.layout = JobLayout(
            self.job_id,
            graph,
            even=self.mode == "tasks",
            first_attempts=old.executions.next_attempts(),
            first_coordinators={vertex: number + 1 for vertex, number in old.coordinators.items()},
        )
        self._wiring = None
        self.schedule(turn, self.layout.executions.executions())

    # -- what it needs ----------------------------------------------------------------------------

    def schedule(self, turn: Turn, executions: Iterable[Execution]) -> None:
        """These executions are to run: ask for the slots they need."""
        for execution in executions:
            self.layout.executions.advance(execution, "schedule", turn.wall_ms)
        self.declare(turn)

    def declare(self, turn: Turn) -> None:
        """Tell the ResourceManager what the job wants to hold from now on."""
        if self._withdrawn:
            return
        wanted, least = self._wanted(), self._least()
        if self.draining:
            # A slot that is being emptied is kept until there is another for its tasks.
            leaving = count_profiles(
                slot.profile for slot in self.pool if slot.draining and slot.shared is not None
            )
            wanted = {profile: count + leaving.get(profile, 0) for profile, count in wanted.items()}
        self._resources.declare(turn, self.job_id, Requirements(wanted, least, self._preferred()))
        if not self.waits_for_slots:
            self._waits_since_ms = None
        elif self._waits_since_ms is None:
            self._waits_since_ms = turn.now_ms

    def withdraw(self, turn: Turn) -> None:
        """The job is ending: it wants no slots beyond those in which tasks are stopping."""
        self._withdrawn = True
        self._waits_since_ms = None
        self._resources.declare(turn, self.job_id, NOTHING)

    def _wanted(self) -> dict[ResourceProfile, int]:
        return self.layout.sharing.needed()

    def _least(self) -> dict[ResourceProfile, int]:
        return self._wanted()

    def _preferred(self) -> dict[str, int]:
        """How many of the missing slots would be best on which TaskManager: where they were, else where
        inputs of their tasks are."""
        preferred: dict[str, int] = {}
        near: dict[str, str] = {}
        if not len(self.pool) or not self.layout.sharing.missing_count:
            return preferred  # nothing of it is anywhere, or nothing is missing
        for shared in self.layout.sharing.missing():
            name = ""
            if shared.previous is not None and self._resources.get(shared.previous.taskmanager_id):
                name = shared.previous.taskmanager_id
            else:
                hosts = [h for task in shared.subtasks for h in self.layout.hosts_of_inputs(task)]
                if hosts and not near:
                    near = {tm.host: tm.taskmanager_id for tm in self._resources if tm.accepts_slots}
                name = next((near[host] for host in hosts if host in near), "")
            if name:
                preferred[name] = preferred.get(name, 0) + 1
        return preferred

    @property
    def waits_for_slots(self) -> bool:
        """Whether tasks wait that have no slot."""
        return self.layout.sharing.missing_count > 0

    @property
    def keeps_idle_slots(self) -> bool:
        """Whether slots without tasks are kept however long: they gather until there are enough."""
        return self.waits_for_slots

    def _kept_profiles(self) -> frozenset[ResourceProfile] | None:
        """Profiles whose idle slots are kept; None: all. A slot of a profile that nothing waits for goes back
        even while others are waited for: it may hold the very resources they need."""
        if not self.keeps_idle_slots:
            return frozenset()
        if len(self.layout.sharing.needed()) == 1:
            return None
        return frozenset(shared.profile for shared in self.layout.sharing.missing())

    @property
    def slots_required(self) -> int:
        """Slots the job needs while all of it runs."""
        return sum(slots_by_group(self.graph.vertices).values())

    def need_text(self) -> str:
        """How many slots the job needs, for people."""
        return str(self.slots_required)

    # -- slots come -------------------------------------------------------------------------------

    def offer(self, turn: Turn, tm: RegisteredTaskManager, slot: Slot, message: OfferSlot) -> str:
        """A slot is offered. Empty when the job takes it, else why it does not."""
        if self.pool.get(slot.allocation_id) is not None:
            return ""  # offered twice: it has it
        if tm.draining:
            return "its TaskManager is being drained"
        physical = PhysicalSlot(
            slot.allocation_id,
            tm.taskmanager_id,
            tm.host,
            slot.index,
            slot.profile,
            slot.resources,
            message.endpoint,
        )
        self.pool.add(physical, turn.now_ms)
        return ""

    def deploy(self, turn: Turn) -> bool:
        """Deploy every task that waits, if there is a slot for each. False when some must go on waiting."""
        sharing, executions = self.layout.sharing, self.layout.executions
        if sharing.missing_count and not self._assign():
            return False
        self._waits_since_ms = None
        if not executions.count("SCHEDULED"):
            return True
        waiting = [e for e in executions.executions() if e.state == "SCHEDULED"]
        if self._wiring is None:
            self._wiring = Wiring(self.job_id, self.layout, self._memory_weights, self._files.named)
        by_slot: dict[str, list[Execution]] = {}
        for execution in waiting:
            logical = sharing.logical_slot(execution.subtask)
            assert logical is not None, execution.attempt_id
            by_slot.setdefault(logical.physical.allocation_id, []).append(execution)
        restores = self.restores(self.layout, [execution.subtask for execution in waiting])
        for allocation, members in by_slot.items():
            tasks = [self._wiring.deployment(e, restores.get(e.subtask)) for e in members]
            slot = self.pool.get(allocation)
            assert slot is not None, allocation
            self._files.send(turn, slot.taskmanager_id)
            message = DeployTasks(turn.epoch, allocation, tasks)
            self._resources.send(turn, slot.taskmanager_id, message)
            for execution in members:
                executions.advance(execution, "deploy", turn.wall_ms)
        return True

    def _assign(self) -> bool:
        """Give each shared slot that lacks one a slot of the pool, group by group: all, or none."""
        sharing = self.layout.sharing
        if self.pool.free_count < sharing.missing_count:
            return False
        missing, free = sharing.missing(), self.pool.free()
        there = count_profiles(slot.profile for slot in free)
        if any(there.get(p, 0) < n for p, n in count_profiles(s.profile for s in missing).items()):
            return False
        groups: dict[str, list[SharedSlot]] = {}
        for shared in missing:
            groups.setdefault(shared.group, []).append(shared)
        for members in groups.values():
            pairs = assign_slots(
                members,
                [slot for slot in free if slot.shared is None],
                self.layout.hosts_of_inputs,
                even=self.mode == "tasks",
                tasks_on=self._tasks_on,
            )
            assert pairs is not None, "slots that were counted are not there"
            for shared, slot in pairs:
                self._put(shared, slot)
        return True

    def _put(self, shared: SharedSlot, slot: PhysicalSlot) -> None:
        self.layout.sharing.assign(shared, slot)
        self.pool.use(slot)
        names = [self.layout.task_name(subtask) for subtask in shared.subtasks]
        self._resources.hold_tasks(slot.allocation_id, shared.group, names)

    def _tasks_on(self, taskmanager_id: str) -> int:
        tm = self._resources.get(taskmanager_id)
        return tm.tasks if tm is not None else 0

    # -- slots go ---------------------------------------------------------------------------------

    def vacate(self, shared: SharedSlot, now_ms: int, *, returned: bool = False) -> PhysicalSlot:
        """Take the tasks out of a slot, which stays in the pool."""
        slot = shared.physical
        assert slot is not None
        self.layout.sharing.vacate(shared, returned=returned)
        self.pool.leave(slot, now_ms)
        self._resources.hold_tasks(slot.allocation_id, "", [])
        return slot

    def give_back(self, turn: Turn, slot: PhysicalSlot) -> None:
        """Return a slot nothing lives in to the ResourceManager."""
        self.pool.remove(slot)
        self._resources.release(turn, slot.allocation_id)
        if not self.pool.on(slot.taskmanager_id):
            self._files.drop(turn, slot.taskmanager_id)

    def lose(self, slot: PhysicalSlot, now_ms: int) -> list[Subtask]:
        """A slot is gone. Returns the subtasks that have to run again because of that."""
        again: list[Subtask] = []
        if slot.shared is not None:
            shared = slot.shared
            again = self.layout.lose(shared)
            executions = self.layout.executions
            done = all(executions.at(subtask).state == "FINISHED" for subtask in shared.subtasks)
            self.vacate(shared, now_ms, returned=done)
        self.pool.remove(slot)
        return again

    def finished(self, turn: Turn, subtask: Subtask) -> None:
        """A task has finished. A slot whose tasks are all done may go back before the job ends."""
        for shared in self.layout.finished(subtask):
            if shared.physical is not None and self.layout.is_idle(shared):
                slot = self.vacate(shared, turn.now_ms, returned=True)
                turn.tell(self.job_id, f"{slot.allocation_id} is idle: its tasks have finished")
                if slot.draining:
                    self.give_back(turn, slot)
                self.declare(turn)

    def return_idle(self, turn: Turn) -> None:
        """Give back the slots that have been idle for long, unless there will be tasks for them."""
        kept = self._kept_profiles()
        for slot in [] if kept is None else self.pool.overdue(turn.now_ms, kept):
            turn.tell(self.job_id, f"{slot.allocation_id} is given back: it was idle for slot.idle.timeout")
            self.give_back(turn, slot)

    def end(self, turn: Turn) -> None:
        """The job has ended: every slot goes back, and its code and files are forgotten."""
        self._resources.dismiss(turn, self.job_id)
        self._files.end(turn)
        self._wiring = None
        self.graph = without_code(self.graph)
        self.layout.graph = without_code(self.layout.graph)

    # -- draining ---------------------------------------------------------------------------------

    def drain(self, turn: Turn, taskmanager_id: str, *, drain: bool) -> None:
        """A TaskManager is being emptied, or is not any more: look for other slots for what is there."""
        held = self.pool.on(taskmanager_id)
        if drain and held:
            self.draining[taskmanager_id] = None
        else:
            self.draining.pop(taskmanager_id, None)
        for slot in held:
            slot.draining = drain
            if drain and slot.shared is None:
                self.give_back(turn, slot)
        self.declare(turn)

    def next_move(self, now_ms: int) -> list[Subtask]:  # noqa: ARG002 - of the interface
        """Tasks to restart so that some leave a draining TaskManager; empty while there is no room for them.

        Restarting a region pulls in all that lives in its slots there, and so their regions; that is followed
        until nothing is added.
        """
        for slot in self.pool if self.draining and not self.pinned else ():
            if not slot.draining or slot.shared is None:
                continue
            moved = {id(slot.shared): slot.shared}
            while True:
                subtasks = [subtask for shared in moved.values() for subtask in shared.subtasks]
                restarted = self._restarted_by_moving(subtasks)
                grown = [
                    shared
                    for shared in self.layout.sharing.holding(restarted)
                    if shared.physical is not None and shared.physical.draining and id(shared) not in moved
                ]
                if not grown:
                    break
                moved.update((id(shared), shared) for shared in grown)
            if self._has_room_for(list(moved.values())):
                return restarted
        return []

    def _restarted_by_moving(self, subtasks: Sequence[Subtask]) -> list[Subtask]:
        if self.restarts_everything:
            return self.layout.every_subtask()
        # The split enumerators that live there move as well: every reader of theirs begins anew.
        sources = [v for v, index in subtasks if index == 0 and v in self.layout.sources]
        readers = [(v, i) for v in sources for i in range(len(self.layout.executions.vertices[v]))]
        return self.layout.restarted_by([*subtasks, *readers])

    def _has_room_for(self, moved: Sequence[SharedSlot]) -> bool:
        there = count_profiles(slot.profile for slot in self.pool.free())
        return all(
            there.get(profile, 0) >= count
            for profile, count in count_profiles(shared.profile for shared in moved).items()
        )

    def leave_draining(self, turn: Turn, subtasks: Iterable[Subtask]) -> None:
        """These subtasks restart so that tasks can move: leave the slots on draining TaskManagers, if there
        is room elsewhere.

        Not called after a failure: that restarts fewer tasks, and a slot may hold others, or the split
        enumerator of readers that run on.
        """
        executions = self.layout.executions
        moved = [
            shared
            for shared in (self.layout.sharing.holding(subtasks) if self.draining else ())
            if shared.physical is not None
            and shared.physical.draining
            and not any(executions.at(subtask).live for subtask in shared.subtasks)
        ]
        if moved and self._has_room_for(moved):
            for shared in moved:
                slot = self.vacate(shared, turn.now_ms)
                shared.previous = None
                self.give_back(turn, slot)

    # -- time and checks --------------------------------------------------------------------------

    def deadline_ms(self, *, running: bool) -> int | None:  # noqa: ARG002 - of the interface
        """When idle slots go back, the wait for slots ends, or the scheduler wants to look again.

        Args:
            running: whether the job is RUNNING, not on its way there.
        """
        kept = self._kept_profiles()
        idle_ms = None if kept is None else self.pool.deadline_ms(kept)
        instants = (idle_ms, self.slots_deadline_ms())
        return min((instant for instant in instants if instant is not None), default=None)

    def slots_deadline_ms(self) -> int | None:
        """When the job has waited for slots for too long."""
        if self._waits_since_ms is None or self.wait_timeout_ms < 0:
            return None
        return self._waits_since_ms + self.wait_timeout_ms

    def slots_are_overdue(self, now_ms: int) -> bool:
        """Whether the wait for slots has taken too long. Asked once it begins anew."""
        deadline = self.slots_deadline_ms()
        if deadline is None or now_ms < deadline:
            return False
        self._waits_since_ms = now_ms
        return True

    def wants_to_rescale(self, now_ms: int) -> bool:  # noqa: ARG002 - of the interface
        """Whether all tasks should restart at another parallelism now."""
        return False

    def check(self) -> None:
        """Layout, pool and the ResourceManager agree."""
        self.layout.check()
        self.pool.check()
        for slot in self.pool:
            held = self._resources.holder(slot.allocation_id)
            assert held is not None, f"{slot.allocation_id} is not the job's"
            assert (held[1].job_id, held[1].state) == (self.job_id, "allocated"), slot.allocation_id
        for execution in self.layout.executions.executions():
            if execution.deployed:
                assert self.layout.sharing.logical_slot(execution.subtask), execution.attempt_id
