"""Which operator runs a specification, after the specification has travelled to a worker."""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle
import pytest

from zmflow.api.functions import CoMapFunction
from zmflow.api.process_functions import (
    BroadcastProcessFunction,
    KeyedBroadcastProcessFunction,
    KeyedProcessFunction,
    ProcessFunction,
)
from zmflow.api.process_operators import BroadcastProcessOperator, CoProcessOperator, ProcessOperator
from zmflow.errors import ProtocolError
from zmflow.execution.broadcast_operator import KeyedBroadcastProcess, UnkeyedBroadcastProcess
from zmflow.execution.keyed_process_operator import KeyedProcess
from zmflow.execution.process_factories import broadcast_process, co_process, process
from zmflow.execution.process_operator import UnkeyedProcess, calls_of
from zmflow.state.descriptors import MapStateDescriptor
from zmflow.testing.harness import OperatorHarness


class Plain(ProcessFunction[int, int]):
    def process_element(self, value: int, ctx: Any) -> Any:
        yield value


class Keyed(KeyedProcessFunction[int, int, int]):
    def process_element(self, value: int, ctx: Any) -> Any:
        yield ctx.get_current_key()


class Both(CoMapFunction[int, int, int]):
    def map1(self, value: int) -> int:
        return value

    def map2(self, value: int) -> int:
        return value


class Everywhere(BroadcastProcessFunction[int, int, int]):
    def process_element(self, value: int, ctx: Any) -> Any:
        yield value

    def process_broadcast_element(self, value: int, ctx: Any) -> None: ...


class KeyedEverywhere(KeyedBroadcastProcessFunction[int, int, int, int]):
    def process_element(self, value: int, ctx: Any) -> Any:
        yield ctx.get_current_key()

    def process_broadcast_element(self, value: int, ctx: Any) -> None: ...


RULES: MapStateDescriptor[str, int] = MapStateDescriptor("rules")


@pytest.mark.parametrize(
    ("factory", "specification", "kind", "result"),
    [
        (process, ProcessOperator(Plain()), UnkeyedProcess, -3),
        (process, ProcessOperator(Keyed(), abs), KeyedProcess, 3),
        (co_process, CoProcessOperator(Both()), UnkeyedProcess, -3),
        (co_process, CoProcessOperator(Both(), (abs, abs)), KeyedProcess, -3),
        (broadcast_process, BroadcastProcessOperator(Everywhere(), (RULES,)), UnkeyedBroadcastProcess, -3),
        (
            broadcast_process,
            BroadcastProcessOperator(KeyedEverywhere(), (RULES,), abs),
            KeyedBroadcastProcess,
            3,
        ),
    ],
)
def test_a_key_selector_makes_the_operator_a_keyed_one(
    factory: Any, specification: Any, kind: type, result: int
) -> None:
    """The specification survives pickling; with a key selector its operator has keys."""
    operator = factory(pickle.loads(cloudpickle.dumps(specification)))
    assert type(operator) is kind
    harness = OperatorHarness(operator)
    harness.push(-3)
    harness.end_input()
    assert harness.values() == [result]


def test_a_function_without_calls_is_refused() -> None:
    """A worker that does not know a function says so by name."""
    with pytest.raises(ProtocolError, match="str"):
        calls_of("no function")
