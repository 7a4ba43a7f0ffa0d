"""``SourceRun``: runs a source as the engine does, without one: requests, assignments, checkpoints, restarts.

Everything that travels is pickled, as it is between workers; the books of what must be given back are the
engine's own. Who is polled next is the caller's to say, so that a run can be stopped at any batch.
"""

from __future__ import annotations

import itertools
import pickle
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cloudpickle

from zmflow.api.functions import RuntimeContext
from zmflow.api.sources import EndOfInput, Source, SourceReader
from zmflow.runtime.sources.split_assignments import Asking, SplitAssignments

__all__ = ["SourceCheckpoint", "SourceRun"]


@dataclass(frozen=True)
class SourceCheckpoint:
    """What a checkpoint holds of a source: the enumerator's state, and the splits of each reader."""

    number: int
    enumerator: bytes
    readers: list[bytes]


class _Reader:
    """A reader, and what its task does for it."""

    def __init__(self, reader: SourceReader[Any, Any], attempt: int) -> None:
        self.reader = reader
        self.attempt = attempt
        self.assigned: deque[tuple[list[Any] | None, int]] = deque()  # None: no more splits
        self.ended = False


class SourceRun:
    """A source with so many readers. It is the enumerator's context.

    Args:
        source: to run; each part is made from a copy of its own.
        parallelism: how many readers.
        restored: what to go on from. With another parallelism its splits are shared out.

    >>> from zmflow.api.collections import SequenceSource
    >>> run = SourceRun(SequenceSource(1, 5), parallelism=2)
    >>> sorted(run.read_all())
    [1, 2, 3, 4, 5]
    """

    def __init__(
        self, source: Source[Any, Any], parallelism: int, restored: SourceCheckpoint | None = None
    ) -> None:
        self.parallelism = parallelism
        self._pickled = cloudpickle.dumps(source)
        self._periodic: list[Callable[[], None]] = []
        self._number = 0 if restored is None else restored.number
        self._books: SplitAssignments[Any] = SplitAssignments(self._number)
        self._readers = [self._new_reader(subtask, 0) for subtask in range(parallelism)]
        if restored is not None:
            shares = [pickle.loads(splits) for splits in restored.readers]
            if parallelism != len(shares):
                splits = list(itertools.chain.from_iterable(shares))
                shares = [splits[subtask::parallelism] for subtask in range(parallelism)]
            for task, share in zip(self._readers, shares, strict=True):
                if share:
                    task.reader.add_splits(share)
        own: Source[Any, Any] = pickle.loads(self._pickled)
        self._enumerator = (
            own.create_enumerator(self)
            if restored is None
            else own.restore_enumerator(self, pickle.loads(restored.enumerator))
        )
        self._enumerator.start()
        for subtask in range(parallelism):
            self._request(subtask)

    # -- the enumerator's context -------------------------------------------------------------------

    def assign_splits(self, splits: Sequence[Any], subtask: int) -> None:
        """Give splits to a reader."""
        self._books.give(subtask, list(splits))
        copies = pickle.loads(pickle.dumps(list(splits), protocol=5))
        self._readers[subtask].assigned.append((copies, self._books.snapshot))

    def signal_no_more_splits(self, subtask: int) -> None:
        """Tell a reader that it has all it will get."""
        self._readers[subtask].assigned.append((None, self._books.snapshot))

    def call_periodically(self, interval_ms: int, function: Callable[[], None]) -> None:  # noqa: ARG002
        """Call a function when ``tick`` is called."""
        self._periodic.append(function)

    # -- running ------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether every reader has read all there is."""
        return all(reader.ended for reader in self._readers)

    def poll(self, subtask: int) -> Sequence[Any]:
        """The next batch of a reader; empty when it has none now."""
        task = self._readers[subtask]
        if task.ended:
            return ()
        batch = task.reader.poll_next()
        if batch is EndOfInput.END:
            task.ended = True
            return ()
        if batch is not None:
            assert not isinstance(batch, EndOfInput)
            return batch
        after_s = task.reader.poll_again_after_s()
        assert after_s is None or after_s >= 0
        if task.assigned:
            splits, _ = task.assigned.popleft()
            if splits is None:
                task.reader.notify_no_more_splits()
            else:
                task.reader.add_splits(splits)
                self._request(subtask)
        elif after_s:
            time.sleep(min(after_s, 0.001))
        return ()

    def tick(self) -> None:
        """Let what the enumerator does periodically be due."""
        for function in self._periodic:
            function()

    def read_all(self, wanted: int | None = None) -> list[Any]:
        """What the readers return from here on, taking turns, until they end or there are so many records."""
        records: list[Any] = []
        while not self.ended and (wanted is None or len(records) < wanted):
            for subtask in range(self.parallelism):
                records += self.poll(subtask)
            self.tick()
        return records

    def read_rounds(self, rounds: int) -> list[Any]:
        """What the readers return when each is polled so many times, the enumerator looking for splits in
        between."""
        records: list[Any] = []
        for _ in range(rounds):
            self.tick()
            for subtask in range(self.parallelism):
                records += self.poll(subtask)
        return records

    # -- checkpoints --------------------------------------------------------------------------------

    def snapshot(self) -> SourceCheckpoint:
        """A checkpoint now: the enumerator first, then the readers."""
        self._number += 1
        number = self._number
        state = pickle.dumps(self._enumerator.snapshot_state(number), protocol=5)
        self._books.snapshot = number
        readers = []
        for task in self._readers:
            splits = [] if task.ended else list(task.reader.snapshot_state(number))
            for assigned, before in task.assigned:
                assert before < number
                splits += assigned or ()
            readers.append(pickle.dumps(splits, protocol=5))
        return SourceCheckpoint(number, state, readers)

    def complete(self, checkpoint: SourceCheckpoint) -> None:
        """Tell everybody that a checkpoint is complete."""
        self._books.completed(checkpoint.number)
        self._enumerator.notify_checkpoint_complete(checkpoint.number)
        for task in self._readers:
            if not task.ended:
                task.reader.notify_checkpoint_complete(checkpoint.number)

    def restart_reader(self, subtask: int, checkpoint: SourceCheckpoint | None) -> None:
        """Let one reader fail and go on from a checkpoint, or anew, while the enumerator lives on."""
        old = self._readers[subtask]
        old.reader.close()
        task = self._readers[subtask] = self._new_reader(subtask, old.attempt + 1)
        if checkpoint is not None and (splits := pickle.loads(checkpoint.readers[subtask])):
            task.reader.add_splits(splits)
        self._request(subtask, 0 if checkpoint is None else checkpoint.number)

    def close(self) -> None:
        """Close everything."""
        for task in self._readers:
            task.reader.close()
        self._enumerator.close()

    def _new_reader(self, subtask: int, attempt: int) -> _Reader:
        own: Source[Any, Any] = pickle.loads(self._pickled)
        context = RuntimeContext(
            "0" * 32, "job", "task", "source", subtask, self.parallelism, 128, attempt, "host"
        )
        reader = own.create_reader(context)
        reader.start()
        return _Reader(reader, attempt)

    def _request(self, subtask: int, restored: int = 0) -> None:
        asking = self._books.asks(subtask, self._readers[subtask].attempt)
        if asking is Asking.RESTARTED and (back := self._books.take_back(subtask, restored)):
            self._enumerator.add_splits_back(back, subtask)
        self._enumerator.handle_split_request(subtask)
