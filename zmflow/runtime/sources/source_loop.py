"""``SourceLoop``: what a task with a source does until its input ends: serve the mailbox, poll, process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from zmflow.api.sources import EndOfInput, SourceReader
from zmflow.execution.chain import Chain
from zmflow.protocol.messages import TaskFailure
from zmflow.runtime.checkpoints.task_checkpoints import TaskCheckpoints
from zmflow.runtime.sources.source_coordinator import (
    ADD_SPLITS,
    ALLOW_WATERMARK,
    ENUMERATOR_FAILED,
    decode_event,
)

if TYPE_CHECKING:
    from zmflow.runtime.sources.source_alignment import SourceAlignment

__all__ = ["EnumeratorFailedError", "SourceLoop"]


class EnumeratorFailedError(Exception):
    """The enumerator of a task's source failed; ``failure`` says how, whichever task reports it first."""

    def __init__(self, failure: TaskFailure) -> None:
        super().__init__(failure.summary)
        self.failure = failure


class SourceLoop:
    """Polls the reader of a source. On the task's thread.

    Args:
        chain: of the task, open.
        checkpoints: of the task.
        request_split: asks the enumerator for a split; the task has asked for the first one already.
        pending: whether the mailbox has something.
        next_item: waits for the next item of the mailbox; None when it has waited until then.
        control: serves an item that is not the source's alone.
        alignment: of the reader with others of its group; None where it has none.
        process: runs records through the chain.
        slice_rows: how many records to process before the mailbox is looked at again.
    """

    def __init__(
        self,
        chain: Chain,
        checkpoints: TaskCheckpoints,
        *,
        request_split: Callable[[], None],
        pending: Callable[[], bool],
        next_item: Callable[[float | None], Any],
        control: Callable[[Any], None],
        alignment: SourceAlignment | None,
        process: Callable[[Sequence[Any]], None],
        slice_rows: Callable[[], int],
    ) -> None:
        operator = chain.source
        assert operator is not None
        self.reader: SourceReader[Any, Any] = operator.source.create_reader(chain.context_of(0))
        self._chain = chain
        self._checkpoints = checkpoints
        self._request_split = request_split
        self._pending = pending
        self._next_item = next_item
        self._control = control
        self._alignment = alignment
        self._process = process
        self._slice_rows = slice_rows
        self._in_hand: Sequence[Any] = ()  # of the reader's last batch, what is not processed yet

    def run(self) -> None:
        """Until the input has ended; the reader is closed then, whatever happens."""
        chain, reader, alignment = self._chain, self.reader, self._alignment
        try:
            with chain.running(0):
                reader.start()
                in_hand = self._checkpoints.restore_reader(chain, reader, ADD_SPLITS, self._left)
            self._take(in_hand)
            while True:
                while self._pending():
                    self._serve(self._next_item(None))
                while alignment is not None and alignment.pauses():
                    self._serve(self._next_item(None))
                with chain.running(0):
                    rows = reader.poll_next()
                if rows is EndOfInput.END:
                    if alignment is not None:
                        alignment.finished()
                    break
                if rows is None:
                    self._wait()
                else:
                    self._take(rows)
        finally:
            with chain.running(0):
                reader.close()

    def _left(self) -> Sequence[Any]:
        return self._in_hand

    def _take(self, rows: Sequence[Any]) -> None:
        """Process a batch. A slow chain takes it in slices, and barriers do not wait for all of it: what
        is left is part of the snapshot."""
        count = len(rows)
        if count <= self._slice_rows():
            self._process(rows)
            return
        begin = 0
        while begin < count:
            end = min(count, begin + self._slice_rows())
            self._process(rows[begin:end])
            begin = end
            if begin < count and self._pending():
                self._in_hand = rows[begin:]
                while self._pending():
                    self._serve(self._next_item(None))
                self._in_hand = ()

    def _wait(self) -> None:
        """Until the reader, which has nothing to read, can be given something or wants to be polled again."""
        assigned = self._checkpoints.assigned
        with self._chain.running(0):
            after_s = self.reader.poll_again_after_s()
        until = None if after_s is None else time.perf_counter() + after_s
        while not assigned.ready:
            item = self._next_item(until)
            if item is None:
                return
            self._serve(item)
        self._assign()

    def _serve(self, item: Any) -> None:
        if not isinstance(item, bytes):
            self._control(item)
            return
        verb, argument, number = decode_event(item)
        if verb == ENUMERATOR_FAILED:
            raise EnumeratorFailedError(argument)
        if verb != ALLOW_WATERMARK:
            self._checkpoints.assigned.add(number, verb, argument)
        elif self._alignment is not None:
            self._alignment.allow(*argument)

    def _assign(self) -> None:
        """Give the reader what the enumerator assigned."""
        verb, splits = self._checkpoints.assigned.pop()
        if verb == ADD_SPLITS:
            self.reader.add_splits(splits)
            # The next split is asked for while this one is read, so that the round trip costs nothing; one
            # ahead and no more, so that a fast reader does not hoard what a slow one could read.
            self._request_split()
        else:
            self.reader.notify_no_more_splits()
