"""Random use of a state backend, compared with what plain dicts hold."""

from __future__ import annotations

import copy
import itertools
import operator
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from zmflow.state.descriptors import (
    AggregatingStateDescriptor,
    ListStateDescriptor,
    MapStateDescriptor,
    ReducingStateDescriptor,
    StateDescriptor,
    StateKind,
    ValueStateDescriptor,
)
from zmflow.state.keys import key_group
from zmflow.state.snapshots import KeyGroupSnapshot
from zmflow.state.ttl import StateTtlConfig
from zmflow.testing.state_backend_checks import MAX_PARALLELISM, MakeBackend, VirtualClock
from zmflow.testing.state_backend_file_checks import StoredBackends

__all__ = ["Average", "check_random_use"]

EXAMPLES = 60
STEPS = 40
"""Runs and steps in each, for one kind of state: 1 s on the heap."""

TTL_MS = 4
FOR_EVER_MS = 2**62
KEYS = ["a", "b", "c", 1, None, ("a", "w")]
NAMESPACES = ["w", "v", ("a", "w")]
CHOSEN = 2
"""Keys and namespaces in one run: few, so that what is done concerns one another. There are two states, too:
one with namespaces and one without, of one name."""
CHANGES_MAX = 8


class Average:
    """An aggregate function whose accumulator is another thing than its result."""

    def create_accumulator(self) -> tuple[int, int]:
        """Sum and count."""
        return (0, 0)

    def add(self, value: int, accumulator: tuple[int, int]) -> tuple[int, int]:
        """One more value."""
        return accumulator[0] + value, accumulator[1] + 1

    def get_result(self, accumulator: tuple[int, int]) -> float:
        """The average."""
        return accumulator[0] / accumulator[1]

    def merge(self, acc_a: tuple[int, int], acc_b: tuple[int, int]) -> tuple[int, int]:
        """Both."""
        return acc_a[0] + acc_b[0], acc_a[1] + acc_b[1]


class _Declared(NamedTuple):
    """One of the states of the machine."""

    kind: StateKind
    expires: bool
    namespaced: bool

    def descriptor(self) -> StateDescriptor:
        name = f"{self.kind.value}{' that expires' if self.expires else ''}"
        descriptor: StateDescriptor
        match self.kind:
            case StateKind.VALUE:
                descriptor = ValueStateDescriptor[int](name)
            case StateKind.LIST:
                descriptor = ListStateDescriptor[int](name)
            case StateKind.MAP:
                descriptor = MapStateDescriptor[int, int](name)
            case StateKind.REDUCING:
                descriptor = ReducingStateDescriptor[int](name, operator.sub)
            case StateKind.AGGREGATING:
                descriptor = AggregatingStateDescriptor[int, tuple[int, int], float](name, Average())
        if self.expires:
            descriptor.enable_time_to_live(StateTtlConfig.new_builder(TTL_MS).cleanup_full_snapshot().build())
        return descriptor


_ordinals = st.integers(0, CHOSEN - 1)
_places = st.tuples(_ordinals, _ordinals)
_changes = st.tuples(_ordinals, _places, st.integers(0, 3), st.integers(0, 1))


def _some(things: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(things), min_size=CHOSEN, max_size=CHOSEN, unique=True)


class _Model:
    """What one state should hold: by key and namespace, each object beside when it was touched."""

    def __init__(self, declared: _Declared) -> None:
        self.kind = declared.kind
        self.ttl_ms = TTL_MS if declared.expires else FOR_EVER_MS
        self.held: dict[tuple[Any, Any], Any] = {}
        self.expired: set[tuple[Any, Any]] = set()
        """Where something has expired that nobody removed: a backend may keep, move and list it, or not."""

    def living(self, place: tuple[Any, Any], now_ms: int) -> Any:
        """What a key and namespace hold that has not expired: pairs of object and time; None for nothing."""
        held = self.held.get(place)
        if held is None:
            return None
        deadline = now_ms - self.ttl_ms
        if self.kind is StateKind.LIST:
            return [pair for pair in held if pair[1] > deadline] or None
        if self.kind is StateKind.MAP:
            return {key: pair for key, pair in held.items() if pair[1] > deadline} or None
        return held if held[1] > deadline else None

    def seen(self, place: tuple[Any, Any], now_ms: int) -> Any:
        """What a function should see of it."""
        living = self.living(place, now_ms)
        match self.kind:
            case StateKind.LIST:
                return [element for element, _ in living or ()]
            case StateKind.MAP:
                return {key: value for key, (value, _) in (living or {}).items()}
            case StateKind.AGGREGATING if living is not None:
                return Average().get_result(living[0])
        return None if living is None else living[0]

    def use(self, place: tuple[Any, Any], action: int, key: int, value: int, now_ms: int) -> None:
        """What ``_use`` does with a state, done here."""
        living = self.living(place, now_ms)
        if self.held.get(place) != living:
            self.expired.add(place)  # all of it, or a part
        match self.kind, action:
            case StateKind.LIST, 0 | 1:
                living = [*(living or ()), *([(value, now_ms)] * (action + 1))]
            case StateKind.LIST, 2:
                living = [(value, now_ms)] * key
            case StateKind.MAP, 0 | 1:
                living = {**(living or {}), **{key + more: (value, now_ms) for more in range(action + 1)}}
            case StateKind.MAP, 2:
                living = {known: pair for known, pair in (living or {}).items() if known != key}
            case StateKind.VALUE, 0 | 1 | 2:
                living = (value, now_ms)
            case StateKind.REDUCING, 0 | 1 | 2:
                living = (value if living is None else living[0] - value, now_ms)
            case StateKind.AGGREGATING, 0 | 1 | 2:
                before = Average().create_accumulator() if living is None else living[0]
                living = (Average().add(value, before), now_ms)
            case _:
                living = None
        self.put(place, living)

    def put(self, place: tuple[Any, Any], living: Any) -> None:
        """Hold this; nothing at all is no entry."""
        if living:
            self.held[place] = living
        else:
            self.held.pop(place, None)

    def merge(self, key: Any, target: Any, source: Any, now_ms: int) -> None:
        """Move what a namespace of a key holds into another one."""
        one, other = self.living((key, target), now_ms), self.living((key, source), now_ms)
        if source == target:
            return
        if other is None:
            if (key, source) in self.held or (key, source) in self.expired:
                self.expired.add((key, target))
            return
        self.held.pop((key, source))
        if one is None:
            merged = other
        elif self.kind is StateKind.LIST:
            merged = one + other
        elif self.kind is StateKind.REDUCING:
            merged = (one[0] - other[0], now_ms)
        else:
            merged = (Average().merge(one[0], other[0]), now_ms)
        self.put((key, target), merged)


def _use(kind: StateKind, state: Any, action: int, key: int, value: int) -> None:
    match kind, action:
        case _, 3:
            state.clear()
        case StateKind.LIST, 1:
            state.add_all([value, value])
        case StateKind.LIST, 2:
            state.update([value] * key)
        case StateKind.MAP, 0:
            state.put(key, value)
        case StateKind.MAP, 1:
            state.put_all({key: value, key + 1: value})
        case StateKind.MAP, 2:
            state.remove(key)
        case StateKind.VALUE, _:
            state.update(value)
        case _:
            state.add(value)


def _seen(kind: StateKind, state: Any) -> Any:
    match kind:
        case StateKind.VALUE:
            return state.value()
        case StateKind.LIST:
            return list(state.get())
        case StateKind.MAP:
            return dict(state.items())  # in which order is the backend's affair
    return state.get()


class _BackendMachine(RuleBasedStateMachine):
    """A backend and its models; ``saved`` has what both held of a key group."""

    def __init__(self, make_backend: MakeBackend, kind: StateKind, *, expires: bool) -> None:
        super().__init__()
        self._make_backend = make_backend
        self._clock = VirtualClock()
        self._saved: dict[int, tuple[KeyGroupSnapshot, list[dict[Any, Any]]]] = {}
        self._declared = [_Declared(kind, expires, namespaced) for namespaced in (False, True)]
        self._models = [_Model(state) for state in self._declared]
        self._keys = KEYS[:CHOSEN]
        self._namespaces = NAMESPACES[:CHOSEN]
        self._changes = 0
        self._open()

    @initialize(keys=_some(KEYS), namespaces=_some(NAMESPACES))
    def begin(self, keys: list[Any], namespaces: list[Any]) -> None:
        """Choose what this run is about."""
        self._keys = keys
        self._namespaces = namespaces

    def _open(self) -> None:
        self._backend = self._make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), self._clock)
        self._states: dict[int, Any] = {}

    def _stand_at(self, number: int, place: tuple[int, int]) -> tuple[Any, _Model, tuple[Any, Any]]:
        """A state, standing at a place, and its model; declared when it is first used."""
        declared = self._declared[number]
        key = self._keys[place[0]]
        namespace = self._namespaces[place[1]] if declared.namespaced else None
        if number not in self._states:
            self._states[number] = self._backend.get_state(declared.descriptor(), namespace)
        state = self._states[number]
        self._backend.set_current_key(key)
        if declared.namespaced:
            state.set_current_namespace(namespace)
        return state, self._models[number], (key, namespace)

    @rule(changes=st.lists(_changes, min_size=2, max_size=CHANGES_MAX))
    def change(self, changes: list[tuple[int, tuple[int, int], int, int]]) -> None:
        """Write, remove or clear, several times: what the other rules do is worth nothing without."""
        for number, place, action, key in changes:
            state, model, at = self._stand_at(number, place)
            self._changes += 1  # every value is another one, so that no two are mistaken for one another
            _use(model.kind, state, action, key, self._changes)
            model.use(at, action, key, self._changes, self._clock())

    @rule(number=_ordinals, place=_places)
    def look(self, number: int, place: tuple[int, int]) -> None:
        """Read."""
        state, model, at = self._stand_at(number, place)
        assert _seen(model.kind, state) == model.seen(at, self._clock())

    @rule(number=_ordinals, place=_places, sources=st.lists(_ordinals, max_size=3))
    def merge(self, number: int, place: tuple[int, int], sources: list[int]) -> None:
        """Merge namespaces, where the state has any and can."""
        declared = self._declared[number]
        if not declared.namespaced or declared.kind in (StateKind.VALUE, StateKind.MAP):
            return
        state, model, (key, target) = self._stand_at(number, place)
        state.merge_namespaces(target, [self._namespaces[source] for source in sources])
        for source in sources:
            model.merge(key, target, self._namespaces[source], self._clock())

    @rule(ms=st.integers(1, TTL_MS))
    def time_passes(self, ms: int) -> None:
        """The clock goes on."""
        self._clock.now_ms += ms

    @rule(number=_ordinals, ordinal=_ordinals)
    def keys(self, number: int, ordinal: int) -> None:
        """Exactly the keys that hold something are listed; some that have expired may be."""
        declared, model = self._declared[number], self._models[number]
        namespace = self._namespaces[ordinal] if declared.namespaced else None
        listed = list(self._backend.keys(declared.descriptor().name, namespace))
        held = {key for key, of_key in [*model.held, *model.expired] if of_key == namespace}
        living = {key for key in held if model.living((key, namespace), self._clock()) is not None}
        assert living <= set(listed) <= held
        assert len(listed) == len(set(listed))

    @rule(ordinal=_ordinals)
    def save(self, ordinal: int) -> None:
        """Take a snapshot of the key group of a key."""
        group = key_group(self._keys[ordinal], MAX_PARALLELISM)
        held = [
            copy.deepcopy({place: held for place, held in model.held.items() if _is_in(place, group)})
            for model in self._models
        ]
        self._saved[group] = self._backend.snapshot(group), held

    @rule(ordinal=_ordinals)
    def bring_back(self, ordinal: int) -> None:
        """Restore the key group of a key from the last snapshot of it."""
        group = key_group(self._keys[ordinal], MAX_PARALLELISM)
        if group not in self._saved:
            return
        snapshot, saved = self._saved[group]
        self._backend.restore(group, snapshot)
        for model, held in zip(self._models, saved, strict=True):
            model.held = {place: there for place, there in model.held.items() if not _is_in(place, group)}
            model.held |= copy.deepcopy(held)

    @rule()
    def start_again(self) -> None:
        """All key groups go into a new backend, whose functions declare their state when they need it."""
        snapshots = [self._backend.snapshot(group) for group in range(MAX_PARALLELISM)]
        self._backend.close()
        self._open()
        for snapshot in snapshots:
            self._backend.restore(snapshot.group, snapshot)

    @precondition(lambda self: self._backend.capabilities.native_files)
    @rule()
    def start_from_files(self) -> None:
        """A new backend goes on with the files of the old one, be there any."""
        with tempfile.TemporaryDirectory() as directory:
            stored = StoredBackends(Path(directory)).take(self._backend)
            self._backend.close()
            self._open()
            if stored is not None:
                self._backend.restore_files([stored])

    def teardown(self) -> None:
        """In the end everything is where it should be."""
        for number in range(len(self._models)):
            for ordinal in range(CHOSEN):
                self.keys(number, ordinal)
            for place in itertools.product(range(CHOSEN), repeat=2):
                self.look(number, place)
        self._backend.close()


def _is_in(place: tuple[Any, Any], group: int) -> bool:
    return key_group(place[0], MAX_PARALLELISM) == group


def check_random_use(
    make_backend: MakeBackend,
    kind: StateKind,
    *,
    expires: bool,
    examples: int = EXAMPLES,
    shrink: bool = True,
) -> None:
    """Use backends at random, and fail with the shortest use that shows a difference.

    Args:
        make_backend: makes an empty backend.
        kind: of the states that are used.
        expires: whether they expire.
        examples: how many runs.
        shrink: whether to look for the shortest use; else the first one that shows a difference will do.
    """

    class Machine(_BackendMachine):
        """Uses backends of this make, and states of this kind."""

        def __init__(self) -> None:
            super().__init__(make_backend, kind, expires=expires)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if shrink else [])],
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
