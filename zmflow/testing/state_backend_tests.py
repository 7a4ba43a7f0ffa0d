"""The conformance kit of state backends: what must hold, and why the engine needs it.

A plugin's tests are these few lines; everything else is inherited::

    class TestMyBackend(StateBackendTests):
        @pytest.fixture
        def make_backend(self):
            return MyBackend

The kit needs pytest and hypothesis, which zmflow itself does not.
"""

from __future__ import annotations

import operator
from functools import partial
from typing import Any

import pytest

from zmflow.errors import StateError, ZmflowError
from zmflow.state.backend import API_VERSION, Capabilities, KeyedStateBackend
from zmflow.state.descriptors import (
    AggregatingStateDescriptor,
    ListStateDescriptor,
    MapStateDescriptor,
    ReducingStateDescriptor,
    StateKind,
    ValueStateDescriptor,
)
from zmflow.state.keys import UnsupportedKeyError, key_group
from zmflow.testing.state_backend_checks import MAX_PARALLELISM, MakeBackend, VirtualClock, holding
from zmflow.testing.state_backend_file_checks import NativeFileChecks
from zmflow.testing.state_backend_machine import Average, check_random_use
from zmflow.testing.state_backend_snapshot_checks import SnapshotChecks
from zmflow.testing.state_backend_ttl_checks import TtlChecks

__all__ = ["StateBackendTests"]


class _KindChecks(SnapshotChecks, TtlChecks, NativeFileChecks):
    """The five kinds of state, of one key after the other."""

    def test_what_it_is_is_declared(self, backend: KeyedStateBackend) -> None:
        """The version and the capabilities are data: the engine reads them before it uses anything."""
        assert backend.api_version == API_VERSION
        assert isinstance(backend.capabilities, Capabilities)

    def test_a_value_belongs_to_its_key(self, backend: KeyedStateBackend) -> None:
        """State follows the current key: a function never says whose state it means."""
        state = backend.get_state(ValueStateDescriptor[int]("count"))
        holding(backend, state, {"a": 1, "b": 2})
        backend.set_current_key("a")
        assert (state.value(), backend.current_key) == (1, "a")
        backend.set_current_key("c")
        assert state.value() is None

    def test_equal_keys_are_one_key(self, backend: KeyedStateBackend) -> None:
        """1, 1.0 and True are one key, as they are routed to one subtask; "1" is another one."""
        state = backend.get_state(ValueStateDescriptor[str]("value"))
        holding(backend, state, {1: "number", "1": "text"})
        for key in (1.0, True):
            backend.set_current_key(key)
            assert state.value() == "number"

    @pytest.mark.parametrize("key", [None, "", b"", (), ("a", None), 2**80, -1.5])
    def test_every_kind_of_key_is_told_apart(self, backend: KeyedStateBackend, key: Any) -> None:
        """Whatever ``key_by`` accepts can hold state, None and nothing at all, too."""
        state = backend.get_state(ValueStateDescriptor[str]("value"))
        backend.set_current_key("another")
        state.update("of another")
        backend.set_current_key(key)
        assert state.value() is None
        state.update("held")
        assert state.value() == "held"
        assert backend.current_key_group == key_group(key, MAX_PARALLELISM)

    def test_update_with_none_and_clear_forget(self, backend: KeyedStateBackend) -> None:
        """Forgotten is forgotten: the key is not listed either, or state would grow for ever."""
        state = backend.get_state(ValueStateDescriptor[int]("count"))
        holding(backend, state, {"a": 1, "b": 2, "c": 3})
        backend.set_current_key("a")
        state.update(None)
        backend.set_current_key("b")
        state.clear()
        state.clear()
        assert state.value() is None
        assert list(backend.keys("count")) == ["c"]

    def test_false_values_are_values(self, backend: KeyedStateBackend) -> None:
        """Zero and nothing-in-it are not nothing: only None is."""
        state = backend.get_state(ValueStateDescriptor[Any]("value"))
        backend.set_current_key("a")
        values: tuple[Any, ...] = (0, "", False, [], 0.0)
        for value in values:
            state.update(value)
            assert state.value() == value
            assert list(backend.keys("value")) == ["a"]

    def test_a_list_keeps_its_order(self, backend: KeyedStateBackend) -> None:
        """Windows hand out their records in the order of arrival."""
        state = backend.get_state(ListStateDescriptor[int]("list"))
        backend.set_current_key("a")
        assert list(state.get()) == []
        state.add(2)
        state.add_all(iter([3, 1]))
        state.add(2)
        assert list(state.get()) == list(state) == [2, 3, 1, 2]
        state.update(element for element in (9, 8))
        assert list(state.get()) == [9, 8]
        backend.set_current_key("b")
        assert list(state.get()) == []

    def test_a_list_without_elements_is_no_list(self, backend: KeyedStateBackend) -> None:
        """Else the keys of emptied lists would stay for ever."""
        state = backend.get_state(ListStateDescriptor[int]("list"))
        backend.set_current_key("a")
        state.add_all([])
        assert list(backend.keys("list")) == []
        state.add(1)
        state.update([])
        assert list(backend.keys("list")) == []

    def test_a_list_can_change_while_it_is_read(self, backend: KeyedStateBackend) -> None:
        """A function that appends what it reads comes to an end, on every backend."""
        state = backend.get_state(ListStateDescriptor[int]("list"))
        backend.set_current_key("a")
        given = [1, 2]
        state.update(given)
        given.append(3)
        for element in state.get():
            state.add(element + 10)
        assert list(state.get()) == [1, 2, 11, 12]

    def test_a_map_holds_entries(self, backend: KeyedStateBackend) -> None:
        """PyFlink's methods and Python's operators; what is not there is None, and no error to remove."""
        state = backend.get_state(MapStateDescriptor[str, Any]("map"))
        backend.set_current_key("k")
        assert (state.is_empty(), state.get("a"), "a" in state, list(state)) == (True, None, False, [])
        state.put("a", 1)
        state["b"] = None
        state.put_all({"c": 3, "a": 4})
        assert dict(state.items()) == {"a": 4, "b": None, "c": 3}
        assert dict(zip(state.keys(), state.values(), strict=True)) == {"a": 4, "b": None, "c": 3}
        assert ("b" in state, state.contains("d"), state["c"], state.is_empty()) == (True, False, 3, False)
        state.remove("a")
        state.remove("a")
        del state["zzz"]
        assert sorted(state) == ["b", "c"]
        backend.set_current_key("l")
        assert state.is_empty()

    def test_a_map_without_entries_is_no_map(self, backend: KeyedStateBackend) -> None:
        """Else the keys of emptied maps would stay for ever."""
        state = backend.get_state(MapStateDescriptor[str, int]("map"))
        backend.set_current_key("k")
        state.put_all({})
        assert list(backend.keys("map")) == []
        state.put("a", 1)
        assert list(backend.keys("map")) == ["k"]
        state.remove("a")
        assert list(backend.keys("map")) == []

    def test_a_map_can_change_while_it_is_read(self, backend: KeyedStateBackend) -> None:
        """Joins throw out what is too old while they walk over the map."""
        state = backend.get_state(MapStateDescriptor[int, int]("map"))
        backend.set_current_key("k")
        state.put_all({number: number for number in range(10)})
        for key, value in state.items():
            if value % 2:
                state.remove(key)
            state.put(key + 100, value)
        for key in state:
            state.put(-key, 0)
        assert 3 not in state and 4 in state and -104 in state

    def test_reducing_state_reduces(self, backend: KeyedStateBackend) -> None:
        """The first value is the result as it is; the function sees the older value first."""
        state = backend.get_state(ReducingStateDescriptor[str]("texts", operator.add))
        backend.set_current_key("a")
        assert state.get() is None
        for value in ("x", "y", "z"):
            state.add(value)
        assert state.get() == "xyz"
        state.clear()
        assert state.get() is None
        state.add("again")
        assert state.get() == "again"

    def test_reducing_state_takes_an_object(self, backend: KeyedStateBackend) -> None:
        """A ``ReduceFunction`` is as good as a callable."""

        class Longest:
            def reduce(self, one: str, other: str) -> str:
                return max(one, other, key=len)

        state = backend.get_state(ReducingStateDescriptor[str]("longest", Longest()))
        backend.set_current_key("a")
        for value in ("a", "ccc", "bb"):
            state.add(value)
        assert state.get() == "ccc"

    def test_aggregating_state_aggregates(self, backend: KeyedStateBackend) -> None:
        """What is held is the accumulator; ``get`` makes the result anew each time."""
        state = backend.get_state(AggregatingStateDescriptor[int, Any, float]("average", Average()))
        backend.set_current_key("a")
        assert state.get() is None
        for value in (1, 2, 6):
            state.add(value)
        assert (state.get(), state.get()) == (3.0, 3.0)
        backend.set_current_key("b")
        state.add(7)
        assert state.get() == 7.0


class _NamespaceChecks(_KindChecks):
    """Keys and namespaces."""

    def test_namespaces_are_apart(self, backend: KeyedStateBackend) -> None:
        """Each window of a key has contents of its own."""
        state = backend.get_state(ValueStateDescriptor[int]("count"), "w1")
        holding(backend, state, {"a": 1, "b": 2})
        state.set_current_namespace("w2")
        assert state.value() is None
        state.update(3)
        state.set_current_namespace("w1")
        assert state.value() == 2
        state.clear()
        assert (list(backend.keys("count", "w1")), list(backend.keys("count", "w2"))) == (["a"], ["b"])

    def test_a_name_with_and_without_namespaces_is_two_states(self, backend: KeyedStateBackend) -> None:
        """A window function may call its per-window and its global state the same."""
        of_key = backend.get_state(ValueStateDescriptor[str]("state"))
        of_window = backend.get_state(ListStateDescriptor[str]("state"), "w")
        backend.set_current_key("a")
        of_key.update("global")
        of_window.add("window")
        assert (of_key.value(), list(of_window.get())) == ("global", ["window"])

    def test_keys_and_namespaces_do_not_run_together(self, backend: KeyedStateBackend) -> None:
        """The key ("a", "w") is not the key "a" in the namespace "w"."""
        state = backend.get_state(ValueStateDescriptor[int]("count"), "w")
        holding(backend, state, {"a": 1, ("a", "w"): 2, ("a", ("w", "w")): 3})
        backend.set_current_key("a")
        assert state.value() == 1
        state.set_current_namespace(("w", "w"))
        assert state.value() is None

    def test_two_objects_of_one_state_share_what_it_holds(self, backend: KeyedStateBackend) -> None:
        """A trigger and a window function each ask for it; each has a namespace of its own."""
        one = backend.get_state(ListStateDescriptor[int]("list"), "w1")
        other = backend.get_state(ListStateDescriptor[int]("list"), "w2")
        backend.set_current_key("a")
        one.add(1)
        other.add(2)
        other.set_current_namespace("w1")
        assert list(other.get()) == [1]

    def test_namespaces_merge(self, backend: KeyedStateBackend) -> None:
        """Session windows that meet become one: of the current key only, in order, the sources are gone."""
        contents = backend.get_state(ListStateDescriptor[str]("contents"), "w0")
        count = backend.get_state(ReducingStateDescriptor[int]("count", operator.add), "w0")
        average = backend.get_state(AggregatingStateDescriptor[int, Any, float]("average", Average()), "w0")
        for key in ("a", "b"):
            backend.set_current_key(key)
            for number in (1, 2, 3):
                for state in (contents, count, average):
                    state.set_current_namespace(f"w{number}")
                contents.add(f"{key}{number}")
                count.add(number)
                average.add(number)
        backend.set_current_key("a")
        for state in (contents, count, average):
            state.merge_namespaces("w2", ["w3", "w2", "w1", "not there"])
            state.set_current_namespace("w2")
        assert (list(contents.get()), count.get(), average.get()) == (["a2", "a3", "a1"], 6, 2.0)
        assert list(backend.keys("contents", "w1")) == ["b"]
        count.merge_namespaces("elsewhere", ["w2"])
        assert (count.get(), list(backend.keys("count", "elsewhere"))) == (None, ["a"])

    def test_a_state_has_namespaces_or_not(self, backend: KeyedStateBackend) -> None:
        """Anything else would silently mix what belongs to a key and what belongs to a window."""
        of_key = backend.get_state(ListStateDescriptor[int]("list"))
        of_window = backend.get_state(ListStateDescriptor[int]("list"), "w")
        backend.set_current_key("a")
        with pytest.raises(StateError):
            of_key.set_current_namespace("w")
        with pytest.raises(StateError):
            of_window.set_current_namespace(None)
        with pytest.raises(StateError):
            of_key.merge_namespaces("w", ["v"])


class StateBackendTests(_NamespaceChecks):
    """All that a state backend must do. Override ``make_backend``, and nothing else."""

    def test_no_check_was_taken_out(self) -> None:
        """A check that a plugin overrides says nothing any more. One that cannot hold is marked with xfail,
        with the reason."""
        overridden = [
            name
            for name, value in vars(type(self)).items()
            if type(self) is not StateBackendTests
            if name.startswith("test_")
            and hasattr(StateBackendTests, name)
            and type(self) is not StateBackendTests
            if not any(mark.name == "xfail" for mark in getattr(value, "pytestmark", ()))
        ]
        assert overridden == [], f"overridden without xfail: {overridden}"

    def test_a_name_stands_for_one_state(self, backend: KeyedStateBackend) -> None:
        """Two functions that use one name for different things are told, before anything is damaged."""
        backend.get_state(ValueStateDescriptor[int]("state"))
        with pytest.raises(StateError, match="state"):
            backend.get_state(ListStateDescriptor[int]("state"))

    def test_state_needs_a_current_key(self, backend: KeyedStateBackend) -> None:
        """State used in ``open`` is a mistake that says what it is."""
        value = backend.get_state(ValueStateDescriptor[int]("value"))
        elements = backend.get_state(ListStateDescriptor[int]("list"))
        entries = backend.get_state(MapStateDescriptor[int, int]("map"))
        put = partial(entries.put, 1, 1)
        for use in (value.value, partial(value.update, 1), elements.get, put, entries.clear):
            with pytest.raises(StateError, match="current"):
                use()

    def test_keys_without_a_stable_hash_are_refused(self, backend: KeyedStateBackend) -> None:
        """They would be lost at the next restart. The current key stays what it was."""
        state = backend.get_state(ValueStateDescriptor[int]("value"))
        holding(backend, state, {"a": 1})
        for key in ([1], {"a": 1}, object(), float("nan"), (1, [2])):
            with pytest.raises(UnsupportedKeyError):
                backend.set_current_key(key)
            assert (backend.current_key, state.value()) == ("a", 1)

    def test_keys_of_other_subtasks_are_refused(self, make_backend: MakeBackend, clock: VirtualClock) -> None:
        """State in a key group that the subtask does not own would be in no snapshot."""
        ours = range(MAX_PARALLELISM // 2)
        backend = make_backend(MAX_PARALLELISM, ours, clock)
        refused = 0
        for key in range(100):
            if key_group(key, MAX_PARALLELISM) in ours:
                backend.set_current_key(key)
                assert backend.current_key_group == key_group(key, MAX_PARALLELISM)
            else:
                before = backend.current_key
                with pytest.raises(StateError, match="group"):
                    backend.set_current_key(key)
                assert backend.current_key == before
                refused += 1
        assert 0 < refused < 100

    def test_keys_come_by_key_group(self, backend: KeyedStateBackend) -> None:
        """Every key once, one key group after the other; a state nobody knows has none."""
        state = backend.get_state(ValueStateDescriptor[int]("value"))
        holding(backend, state, {key: key for key in range(200)})
        keys = list(backend.keys("value"))
        groups = [key_group(key, MAX_PARALLELISM) for key in keys]
        assert sorted(keys) == list(range(200))
        assert groups == sorted(groups)
        assert list(backend.keys("nobody knows it")) == []

    def test_state_can_change_while_keys_are_walked_over(self, backend: KeyedStateBackend) -> None:
        """A broadcast function applies a change to the state of all keys."""
        state = backend.get_state(ValueStateDescriptor[int]("value"))
        holding(backend, state, {key: key for key in range(50)})
        seen = []
        for key in backend.keys("value"):
            backend.set_current_key(key)
            state.update(None if key % 2 else key * 10)
            seen.append(key)
        assert sorted(seen) == list(range(50))
        assert sorted(backend.keys("value")) == list(range(0, 50, 2))

    def test_ten_thousand_keys(self, backend: KeyedStateBackend) -> None:
        """Nothing is bounded by what fits into a cache."""
        state = backend.get_state(ValueStateDescriptor[int]("value"))
        for round_number in (1, 2):
            for key in range(10_000):
                backend.set_current_key(f"key {key}")
                state.update((state.value() or 0) + key * round_number)
        for key in range(0, 10_000, 97):
            backend.set_current_key(f"key {key}")
            assert state.value() == key * 3
        assert sum(1 for _ in backend.keys("value")) == 10_000

    def test_values_of_any_size(self, backend: KeyedStateBackend) -> None:
        """From nothing to a megabyte."""
        state = backend.get_state(ValueStateDescriptor[bytes]("value"))
        holding(backend, state, {"empty": b"", "large": bytes(2**20)})
        backend.set_current_key("large")
        assert len(state.value() or b"") == 2**20
        backend.set_current_key("empty")
        assert state.value() == b""

    def test_what_a_user_function_raises_goes_through(self, backend: KeyedStateBackend) -> None:
        """The job's failure shows the user's own traceback; what was held before is still held."""

        def divide(one: int, other: int) -> int:
            return one // other

        state = backend.get_state(ReducingStateDescriptor[int]("quotient", divide))
        backend.set_current_key("a")
        state.add(8)
        with pytest.raises(ZeroDivisionError):
            state.add(0)
        assert state.get() == 8

    def test_errors_are_zmflow_errors(self, backend: KeyedStateBackend) -> None:
        """The command line shows message, detail and hint of them."""
        assert issubclass(StateError, ZmflowError)
        with pytest.raises(ZmflowError):
            backend.get_state(ValueStateDescriptor[int]("value")).value()

    @pytest.mark.parametrize("kind", StateKind)
    def test_random_use(self, make_backend: MakeBackend, kind: StateKind) -> None:
        """Whatever is done in whatever order, the backend holds what a plain dict would: keys, namespaces,
        and key groups that are saved and brought back one by one."""
        check_random_use(make_backend, kind, expires=False)

    @pytest.mark.parametrize("kind", StateKind)
    def test_random_use_while_time_passes(
        self, make_backend: MakeBackend, backend: KeyedStateBackend, kind: StateKind
    ) -> None:
        """The same with state that expires."""
        if backend.capabilities.ttl:
            check_random_use(make_backend, kind, expires=True)
