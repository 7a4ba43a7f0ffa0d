"""Control messages: their bytes do not change, and no bytes bring a process down."""

from __future__ import annotations

import contextlib
import random
import sys
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from message_samples import SAMPLES

from zmflow.errors import ProtocolError
from zmflow.graph.job_graph import (
    JobEdge,
    JobGraph,
    JobOperator,
    JobVertex,
    SharingGroup,
    decode_job_graph,
    encode_job_graph,
)
from zmflow.protocol import messages
from zmflow.protocol.job_files import new_job_file
from zmflow.protocol.messages import Message, ResourceProfile, decode_message, encode_message
from zmflow.protocol.versions import PROTOCOL_VERSION

GOLDEN = Path(__file__).parent / f"golden_messages_v{PROTOCOL_VERSION}.txt"

CASES_PER_SEED = 500
SEEDS = 200
"""200 x 500 is 100,000 mutated messages in some seconds."""

GRAPH = JobGraph(
    "job",
    [
        JobVertex(
            "v1",
            "source",
            2,
            128,
            "default",
            [JobOperator("o1", "u", "source", "source")],
            b"code",
            "cache",
            {"OPERATOR": 3, "STATE_BACKEND": 1},
        ),
        JobVertex("v2", "sink", 1, 128, "default", [JobOperator("o2", "", "sink", "sink")], b"code"),
    ],
    [JobEdge("e1", "v1", "v2", 0, "REBALANCE", False)],
    {"heartbeat.timeout": "2 s"},
    [],
    "STREAMING",
    [SharingGroup("default", ResourceProfile(1500, 2**30, 2**29, (("gpu", 1),)))],
    [new_job_file("m.py", "python", b"x = 1"), new_job_file("words", "file", b"a b c", executable=True)],
)


def _golden() -> dict[str, bytes]:
    lines = GOLDEN.read_text(encoding="ascii").splitlines()
    return {name: bytes.fromhex(text) for name, text in (line.split() for line in lines)}


def test_every_message_has_a_sample_and_golden_bytes():
    """A new message comes with both."""
    names = [kind.__name__ for kind in get_args(Message)]
    assert [type(sample).__name__ for sample in SAMPLES] == names
    assert list(_golden()) == names


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_the_bytes_of_this_protocol_version_are_written_and_read(sample: Message):
    """What another process of this version wrote means the same here. Appended fields change what is
    written and not what is read; then the golden bytes are extended, never replaced."""
    golden = _golden()[type(sample).__name__]
    assert encode_message(sample) == golden
    assert decode_message(golden) == sample


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_fields_a_newer_peer_appends_are_passed_over(sample: Message):
    """Evolution is by appending: an older reader ignores what it does not know."""
    data = bytearray(encode_message(sample))
    assert 0x90 <= data[0] < 0x9F, "a message of at most 14 fields"
    data[0] += 1
    assert decode_message(bytes(data) + b"\xa3new") == sample


def test_every_message_is_in_the_table_of_its_module():
    """The table says who sends what to whom."""
    for kind in get_args(Message):
        assert f"\n{kind.__name__} " in (sys.modules[kind.__module__].__doc__ or ""), kind.__name__


def test_a_message_above_the_limit_is_refused_unread(monkeypatch: pytest.MonkeyPatch):
    """The size is checked before anything is decoded."""
    monkeypatch.setattr(messages, "MESSAGE_SIZE_MAX_BYTES", 10)
    with pytest.raises(ProtocolError, match="larger than the protocol allows"):
        decode_message(b"\x00" * 11)


@pytest.mark.parametrize(
    "header", [b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]
)
def test_a_length_that_is_a_lie_allocates_nothing(header: bytes):
    """Four billion announced elements in ten bytes are an error, not four billion elements."""
    data = encode_message(messages.TaskMetrics(1, "a", []))
    with pytest.raises(ProtocolError):
        decode_message(data[:-1] + header)


def _mutated(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        kind = chance.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] = chance.randrange(256)
        elif kind == 1 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            changed[at:at] = chance.randbytes(chance.randint(1, 8))
        elif kind == 3:
            del changed[at : at + chance.randint(1, 8)]
        else:
            del changed[at:]
    return bytes(changed)


def _decoded(decode, data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode(data)


@settings(deadline=None, max_examples=SEEDS)
@given(st.integers(0, 2**64))
def test_mutated_messages_are_messages_or_a_protocol_error(seed: int):
    """Damage anywhere in a valid message is never another exception."""
    chance = random.Random(seed)
    valid = [encode_message(sample) for sample in SAMPLES]
    for _ in range(CASES_PER_SEED):
        _decoded(decode_message, _mutated(chance, chance.choice(valid)))


@settings(deadline=None, max_examples=SEEDS)
@given(st.integers(0, 2**64))
def test_mutated_job_graphs_are_job_graphs_or_a_protocol_error(seed: int):
    """Likewise for what a client submits."""
    chance = random.Random(seed)
    valid = encode_job_graph(GRAPH)
    for _ in range(CASES_PER_SEED // 5):
        _decoded(decode_job_graph, _mutated(chance, valid))


@settings(deadline=None, max_examples=2_000)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_message_or_a_protocol_error(data: bytes):
    """Nothing is assumed about who sends."""
    _decoded(decode_message, data)
    _decoded(decode_job_graph, data)


@settings(deadline=None, max_examples=500)
@given(st.integers(0, 100_000), st.sampled_from([b"\x91", b"\x81", b"\x81\xa0", b"\xdc\x00\x01"]))
def test_deep_nesting_is_a_protocol_error(depth: int, opening: bytes):
    """A hundred thousand brackets do not exhaust the stack."""
    with pytest.raises(ProtocolError):
        decode_message(b"\x93\xa9Heartbeat" + opening * depth)
    with pytest.raises(ProtocolError):
        decode_job_graph(b"\x96" + opening * depth)


def test_job_graphs_that_contradict_themselves_are_refused():
    """References, order and parallelism are checked, with the object named."""
    replace = messages.msgspec.structs.replace
    first, second = GRAPH.vertices
    for broken, words in [
        (replace(GRAPH, vertices=[]), "no vertices"),
        (replace(GRAPH, vertices=[first, first]), "twice"),
        (replace(GRAPH, vertices=[second, first]), "topological"),
        (replace(GRAPH, vertices=[first]), "without an end"),
        (replace(GRAPH, vertices=[replace(first, parallelism=0), second]), "impossible parallelism"),
        (replace(GRAPH, vertices=[replace(first, parallelism=129), second]), "impossible parallelism"),
        (replace(GRAPH, edges=[replace(GRAPH.edges[0], input_index=-1)]), "topological"),
        (replace(GRAPH, sharing_groups=GRAPH.sharing_groups * 2), "group twice"),
        (replace(GRAPH, sharing_groups=[SharingGroup("other", ResourceProfile())]), "without vertices"),
    ]:
        with pytest.raises(ProtocolError, match=words):
            decode_job_graph(encode_job_graph(broken))
    assert decode_job_graph(encode_job_graph(GRAPH)) == GRAPH
