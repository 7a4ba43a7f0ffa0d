"""Holds much state in little memory, and says how much memory that took. Arguments: a directory, and sizes in
bytes: of the memory the backend is given, and of the state."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

from zmflow_state_rocksdb import RocksDBKeyedStateBackend

from zmflow.runtime.memory_watch import resident_bytes
from zmflow.state.backend import BackendContext
from zmflow.state.descriptors import ValueStateDescriptor
from zmflow.state.state_file import PickledState

VALUE_BYTES = 1000
SAMPLED_EVERY = 1000


def main(directory: str, memory_bytes: int, state_bytes: int) -> None:
    """Write all keys, change some at random, write a snapshot; the largest growth of the process at each."""
    chance = random.Random(7)  # noqa: S311 - the same on each run
    context = BackendContext(directory, memory_bytes)
    before = resident_bytes(os.getpid())
    most: dict[str, int] = {}
    began = time.monotonic()

    def sample(what: str) -> None:
        most[what] = max(most.get(what, 0), resident_bytes(os.getpid()) - before)

    backend = RocksDBKeyedStateBackend.for_task(128, range(128), lambda: 0, context)
    state = backend.get_state(ValueStateDescriptor[bytes]("value"))
    keys = state_bytes // VALUE_BYTES
    for number in range(keys):
        backend.set_current_key(f"key {number}")
        state.update(chance.randbytes(VALUE_BYTES))
        if not number % SAMPLED_EVERY:
            sample("written")
    for number in range(keys // 10):
        backend.set_current_key(f"key {chance.randrange(keys)}")
        assert len(state.value() or b"") == VALUE_BYTES
        state.update(chance.randbytes(VALUE_BYTES))
        if not number % SAMPLED_EVERY:
            sample("changed")
    frozen = backend.freeze()
    snapshot = PickledState((), [("operator", frozen)])
    with Path(directory, "snapshot").open("wb") as file:
        for part in snapshot.parts():
            file.write(part)
            sample("snapshot")
        size = file.tell()
    snapshot.close()
    backend.close()
    print(json.dumps({"most": most, "snapshot": size, "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
