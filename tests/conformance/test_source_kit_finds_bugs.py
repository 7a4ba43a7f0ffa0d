"""The conformance kit of sources finds what it is there to find: sources with a bug planted do not pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from zmflow.api.collections import SequenceSource, _SliceReader, _SplitList
from zmflow.testing.source_tests import SourceTests, _Runs

Plant = Callable[[pytest.MonkeyPatch], None]

LAST = 20_000


def positions_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A split goes into a snapshot as it was assigned."""
    original = _SliceReader.snapshot_state

    def snapshot_state(self: Any, checkpoint_id: int) -> list[range]:
        return [range(split.start // 1250 * 1250, split.stop) for split in original(self, checkpoint_id)]

    monkeypatch.setattr(_SliceReader, "snapshot_state", snapshot_state)


def the_current_split_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those that were not begun are in a snapshot."""
    monkeypatch.setattr(_SliceReader, "snapshot_state", lambda self, checkpoint_id: self._splits[1:])


def snapshots_are_destructive(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in a snapshot is not read any more."""

    def snapshot_state(self: Any, checkpoint_id: int) -> list[range]:
        splits, self._splits = self._splits, []
        return list(splits)

    monkeypatch.setattr(_SliceReader, "snapshot_state", snapshot_state)


def what_comes_back_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The splits of a reader that restarts are read by nobody."""

    def add_splits_back(self: Any, splits: Sequence[range], subtask: int) -> None:
        pass

    monkeypatch.setattr(_SplitList, "add_splits_back", add_splits_back)


def the_enumerator_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restored enumerator hands out what it had in the beginning."""

    def restore_enumerator(self: Any, context: Any, state: Any) -> Any:
        return self.create_enumerator(context)

    monkeypatch.setattr(SequenceSource, "restore_enumerator", restore_enumerator)


def a_second_split_replaces_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that is restored with several splits keeps the last."""

    def add_splits(self: Any, splits: Sequence[range]) -> None:
        self._splits = list(splits[-1:])

    monkeypatch.setattr(_SliceReader, "add_splits", add_splits)


def passes() -> bool:
    """Whether a source passes the kit."""
    kit = SourceTests()
    source = SequenceSource(1, LAST)
    runs = _Runs(source, range(1, LAST + 1))
    try:
        kit.test_it_travels(source)
        for parallelism in (1, 3):
            kit.test_every_record_is_read_once(runs, parallelism)
            kit.test_snapshots_disturb_nothing(runs, parallelism)
        for before, after in ((1, 1), (2, 2), (3, 1)):
            kit.test_it_goes_on_from_any_checkpoint(runs, before, after)
        kit.test_it_goes_on_again_and_again(runs)
        for completed in (False, True):
            kit.test_a_reader_restarts_alone(runs, completed)
        kit.test_readers_can_be_closed_anywhere(runs)
    except (AssertionError, pytest.fail.Exception):
        return False
    return True


def test_a_sound_source_passes() -> None:
    """Or else the tests below would say nothing."""
    assert passes()


@pytest.mark.parametrize(
    "plant",
    [
        positions_are_forgotten,
        the_current_split_is_forgotten,
        snapshots_are_destructive,
        what_comes_back_is_dropped,
        the_enumerator_begins_anew,
        a_second_split_replaces_the_first,
    ],
)
def test_a_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in its way loses records or reads some twice."""
    plant(monkeypatch)
    assert not passes()
