"""The job, seen from the JobManager: its layout, its checkpoints, what restarts when something fails.

Checkpoints, layout, regions and restores are the real ones. Around them is as much of a ``JobMaster`` as they
need, without slots to wait for and restart strategies: ``zmflow.testing.simulation`` runs the real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, cast

import msgspec

from zmflow.coordination.checkpoints.coordinator import CheckpointCoordinator
from zmflow.coordination.checkpoints.in_flight_assignment import can_overtake
from zmflow.coordination.checkpoints.settings import checkpoint_settings
from zmflow.coordination.effects import DiscardCheckpoint, Effect, StoreCheckpoint, Story
from zmflow.coordination.execution_graph import Execution
from zmflow.coordination.job_layout import JobLayout
from zmflow.coordination.resource_manager import ResourceManager
from zmflow.coordination.scheduler import Scheduler
from zmflow.coordination.slots import PhysicalSlot, Subtask
from zmflow.coordination.turn import Turn
from zmflow.execution.output import writer_for
from zmflow.graph.partitioners import (
    ForwardPartitioner,
    HashPartitioner,
    Partitioner,
    RebalancePartitioner,
    consumers_of,
)
from zmflow.ids import Epoch, JobId
from zmflow.protocol.checkpoints import (
    AwaitsCheckpoint,
    CheckpointAcknowledged,
    CheckpointDeclined,
    CoordinatorSnapshot,
    SubtaskRestore,
)
from zmflow.protocol.messages import TaskDeployment
from zmflow.testing.simulation.dataflow.channel import FlowChannel, FlowOutputs
from zmflow.testing.simulation.dataflow.slot import FlowSlot

if TYPE_CHECKING:
    from zmflow.testing.simulation.dataflow.flow import Flow

__all__ = ["JOB_ID", "Master"]

JOB_ID = JobId("f1" * 16)
FRAME_BYTES = 250
"""Two or three rows fill a frame; the first one of a channel is larger, if nothing flushes it before."""

REPORTS = {"RUNNING": "run", "FINISHED": "finish", "FAILED": "fail", "CANCELED": "canceled"}


class Master:
    """The job. It is ``Scheduler`` and ``ResourceManager`` of its ``CheckpointCoordinator``, which asks the
    one for the layout and the slots, and lets the other send messages."""

    def __init__(self, flow: Flow, chance: Random) -> None:
        self._flow = flow
        self._chance = chance
        self.story = Story()
        graph = flow.plan.graph(chance)
        self.layout = JobLayout(JOB_ID, graph, even=False)
        self.slots: dict[str, FlowSlot] = {}
        self._slots_made = 0
        self.state = "RESTARTING"  # RUNNING, FINISHED
        self._restarting: dict[Subtask, None] = dict.fromkeys(self.layout.every_subtask())
        self._rescales = False
        self._first = True
        settings = checkpoint_settings(JOB_ID, graph, flow.plan.settings)
        self.checkpoints = CheckpointCoordinator(
            JOB_ID, settings, cast(Scheduler, self), cast(ResourceManager, self), chance.random
        )

    # -- what the coordinator asks of the scheduler and the resource manager ---------------------------

    @property
    def pool(self) -> list[PhysicalSlot]:
        """The slots of the job."""
        return [slot.physical for slot in self.slots.values()]

    def send(self, _turn: Turn, taskmanager_id: str, message: Any) -> None:
        """A message to the worker of a slot; each is a TaskManager of its own."""
        slot = self.slots.get(taskmanager_id)
        if slot is not None and slot.alive:
            slot.down.append(message)

    def is_source(self, vertex: str) -> bool:
        """Whether a vertex reads."""
        return vertex in self.layout.sources

    # -- events ---------------------------------------------------------------------------------------

    def _turn(self, cause: str) -> Turn:
        return Turn(Epoch(1), self._flow.now_ms, self._flow.now_ms, cause, self.story)

    def receive(self, slot: FlowSlot) -> None:
        """Take what came first from a worker."""
        message = slot.up.popleft()
        turn = self._turn(type(message).__name__ if not isinstance(message, tuple) else message[0])
        checkpoints = self.checkpoints
        if isinstance(message, CheckpointAcknowledged):
            checkpoints.acknowledged(turn, message)
        elif isinstance(message, CheckpointDeclined):
            checkpoints.declined(turn, message)
        elif isinstance(message, CoordinatorSnapshot):
            checkpoints.coordinator_snapshot(turn, message)
        elif isinstance(message, AwaitsCheckpoint):
            checkpoints.awaits(turn, message)
        elif message[0] == "gone":
            self._gone(turn, slot)
        elif message[0] == "state":
            self._reported(turn, message[1], message[2])
        else:
            self._pass_on(message)
        self._end(turn)

    def _pass_on(self, message: tuple[Any, ...]) -> None:
        """An event between a reader and an enumerator."""
        vertex = message[1]
        subtask = 0 if message[0] == "request" else message[2]
        if subtask >= len(self.layout.executions.vertices[vertex]):
            return
        logical = self.layout.sharing.logical_slot((vertex, subtask))
        if logical is not None:
            self.slots[logical.physical.taskmanager_id].down.append(message)

    def tick(self) -> None:
        """Do what is due."""
        turn = self._turn("tick")
        if self.state == "RUNNING":
            self.checkpoints.proceed(turn)
            if self.checkpoints.take_failure() is not None:
                self._flow.count("too many checkpoints fail")
                self._failed(turn, self.layout.every_subtask())
        self._end(turn)

    def deadline_ms(self) -> int | None:
        """When ``tick`` has something to do."""
        return self.checkpoints.deadline_ms() if self.state == "RUNNING" else None

    def stored(self, number: int, error: str) -> None:
        """The metadata of a checkpoint was written, or was not."""
        turn = self._turn("stored")
        self.checkpoints.stored(turn, number, error)
        self._end(turn)

    def savepoint(self) -> bool:
        """Somebody asks for one."""
        turn = self._turn("savepoint")
        refusal = self.state != "RUNNING" or self.checkpoints.trigger(turn, "savepoint", "", object())
        self._end(turn)
        return not refusal

    def rescale(self) -> bool:
        """Somebody asks for another parallelism."""
        if self.state == "FINISHED":
            return False
        self._rescales = True
        turn = self._turn("rescale")
        self._failed(turn, self.layout.every_subtask())
        self._end(turn)
        return True

    def _end(self, turn: Turn) -> None:
        self._proceed(turn)
        self._carry_out(turn.effects)
        self.checkpoints.take_answers()
        if self.state == "RUNNING":
            self.checkpoints.check()
        self._flow.rules.completed(self.checkpoints._completed.latest)

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, StoreCheckpoint):
                self._flow.storing.append(effect)
            elif isinstance(effect, DiscardCheckpoint) and not effect.names:
                self._flow.rules.discarded(effect.location)

    # -- tasks ----------------------------------------------------------------------------------------

    def _reported(self, turn: Turn, attempt: str, state: str) -> None:
        executions = self.layout.executions
        execution = executions.get(attempt)
        if execution is None or not execution.live:
            return
        before = execution.state
        executions.advance(execution, cast(Any, REPORTS[state]))
        if execution.state == before:
            return
        turn.tell(attempt, f"{before} → {execution.state}")
        if execution.state == "FINISHED":
            self.layout.finished(execution.subtask)
            self.checkpoints.task_finished(turn, execution)
            if not executions.live and executions.count("FINISHED") == executions.total:
                self.state = "FINISHED"
                self.checkpoints.ended(turn, "FINISHED")
        elif execution.state == "FAILED":
            self._failed(turn, [execution.subtask])

    def _gone(self, turn: Turn, slot: FlowSlot) -> None:
        del self.slots[slot.name]
        shared = slot.physical.shared
        if shared is None or self.state == "FINISHED":
            return
        lost = self.layout.lose(shared)
        self.layout.sharing.vacate(shared)
        executions = self.layout.executions
        for subtask in lost:
            execution = executions.at(subtask)
            if execution.live:
                executions.advance(execution, "fail")
        if lost or self.layout.unserved_sources():
            self._failed(turn, lost)

    def _failed(self, turn: Turn, failed: Sequence[Subtask]) -> None:
        """Restart the regions of these, or all."""
        everything = self._rescales or self._flow.plan.faults % 2 == 1
        again = self.layout.every_subtask() if everything else self.layout.restarted_by(failed)
        turn.tell(JOB_ID, f"{len(again)} tasks restart")
        self.checkpoints.abort_all(turn, "Tasks restart.")
        self.state = "RESTARTING"
        self._restarting.update(dict.fromkeys(again))
        executions = self.layout.executions
        for subtask in again:
            execution = executions.at(subtask)
            if execution.state == "CANCELING" or not execution.live:
                continue
            deployed = execution.deployed
            executions.advance(execution, "cancel")
            if deployed:
                logical = self.layout.sharing.logical_slot(subtask)
                if logical is not None:
                    message = ("cancel", execution.attempt_id)
                    self.send(turn, logical.physical.taskmanager_id, message)

    def _proceed(self, turn: Turn) -> None:
        """Deploy, when everything that is to restart has ended."""
        if self.state != "RESTARTING":
            return
        executions = self.layout.executions
        if not self._first and any(executions.at(subtask).live for subtask in self._restarting):
            return
        if self._rescales:
            self._apply_rescale()
        elif not self._first:
            order = [subtask for subtask in self.layout.every_subtask() if subtask in self._restarting]
            self.layout.renew(order)
        again = [subtask for subtask in self.layout.every_subtask() if subtask in self._restarting]
        self._first = False
        self._restarting.clear()
        self._provide_slots()
        self._deploy(turn, again)
        self.state = "RUNNING"
        self.checkpoints.started(turn)

    def _apply_rescale(self) -> None:
        old = self.layout
        for shared in old.sharing:
            if shared.physical is not None:
                old.sharing.vacate(shared)
        self.layout = JobLayout(
            JOB_ID,
            self._flow.plan.graph(self._chance),
            even=False,
            first_attempts=old.executions.next_attempts(),
            first_coordinators={vertex: number + 1 for vertex, number in old.coordinators.items()},
        )
        self._rescales = False
        self._restarting = dict.fromkeys(self.layout.every_subtask())

    def _provide_slots(self) -> None:
        free = [slot for slot in self.slots.values() if slot.physical.shared is None and slot.alive]
        self._chance.shuffle(free)
        for shared in self.layout.sharing.missing():
            if not free:
                self._slots_made += 1
                slot = FlowSlot(self._flow, self._slots_made)
                self.slots[slot.name] = slot
                free.append(slot)
            self.layout.sharing.assign(shared, free.pop().physical)

    # -- deployment -----------------------------------------------------------------------------------

    def _deploy(self, turn: Turn, subtasks: Sequence[Subtask]) -> None:
        graph = self.layout.graph
        restores = self.checkpoints.restores(self.layout, subtasks)
        vertices = {vertex.vertex_id: vertex for vertex in graph.vertices}
        inputs: dict[Subtask, list[FlowChannel]] = {subtask: [] for subtask in subtasks}
        outputs: dict[Subtask, list[tuple[str, Partitioner, list[FlowChannel]]]] = {s: [] for s in subtasks}
        for edge in graph.edges:
            producers, consumers = vertices[edge.source], vertices[edge.target]
            for index in range(producers.parallelism):
                channels = []
                if (edge.source, index) not in outputs:
                    continue
                targets = consumers_of(edge.pointwise, index, producers.parallelism, consumers.parallelism)
                for target in targets:
                    name = f"{edge.source}/{index}>{edge.target}/{target}"
                    channel = FlowChannel(name, len(inputs[edge.target, target]))
                    inputs[edge.target, target].append(channel)
                    channels.append(channel)
                partitioner = self._partitioner(edge.partitioner)
                outputs[edge.source, index].append((edge.edge_id, partitioner, channels))
        for subtask in subtasks:
            execution = self.layout.executions.at(subtask)
            logical = self.layout.sharing.logical_slot(subtask)
            assert logical is not None
            for event in ("schedule", "deploy"):
                self.layout.executions.advance(execution, event)
            deployment = self._deployment(execution, restores.get(subtask))
            self._flow.rules.restored(restores.get(subtask))
            self.send(
                turn,
                logical.physical.taskmanager_id,
                ("deploy", deployment, inputs[subtask], self._outputs(outputs[subtask])),
            )
        self._flow.note("master", f"deploys {len(subtasks)} tasks from {self.checkpoints.completed_id}")

    def _outputs(self, edges: Sequence[tuple[str, Partitioner, list[FlowChannel]]]) -> FlowOutputs:
        writers = {
            edge_id: writer_for(
                partitioner,
                channels,
                frame_size_bytes=FRAME_BYTES,
                max_parallelism=self._flow.plan.max_parallelism,
                choose=lambda items, count: self._chance.choices(items, k=count),
                first=0,
            )
            for edge_id, partitioner, channels in edges
        }
        return FlowOutputs(writers, [channel for _, _, channels in edges for channel in channels])

    def _partitioner(self, name: str) -> Partitioner:
        if name == "HASH":
            return HashPartitioner(partial(_key, self._flow.plan.keys))
        return ForwardPartitioner() if name == "FORWARD" else RebalancePartitioner()

    def _deployment(self, execution: Execution, restore: SubtaskRestore | None) -> TaskDeployment:
        name, index = execution.subtask
        vertex = next(vertex for vertex in self.layout.graph.vertices if vertex.vertex_id == name)
        if restore is not None:
            # All state is in the messages; the location says only whether it was discarded.
            restore = msgspec.structs.replace(restore, location="")
        return TaskDeployment(
            execution.attempt_id,
            JOB_ID,
            "dataflow",
            name,
            name,
            index,
            vertex.parallelism,
            vertex.max_parallelism,
            execution.attempt_number,
            vertex.operators,
            [],
            [],
            {},
            [],
            self.layout.coordinators[name],
            restore=restore,
            overtakes=can_overtake(self.layout.graph, name),
        )


def _key(keys: int, number: int) -> int:
    return number % keys
