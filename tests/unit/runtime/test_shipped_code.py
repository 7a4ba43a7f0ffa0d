"""Code that came with a job, loaded by several threads at once."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path

import cloudpickle
import pytest

from zmflow.graph.job_graph import ChainSpec
from zmflow.runtime.shipped_code import load_chain


def test_chains_that_import_each_others_modules_load_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Two threads that import two modules which import each other do not fail each other's imports."""
    pairs = 20
    for number in range(pairs):
        (tmp_path / f"left_{number}.py").write_text(f"import right_{number}\ndef run(): return {number}\n")
        (tmp_path / f"right_{number}.py").write_text(f"import left_{number}\ndef run(): return {number}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    chains = []
    for number in range(pairs):
        for side in ("left", "right"):
            module = importlib.import_module(f"{side}_{number}")
            chains.append(cloudpickle.dumps(ChainSpec([module.run])))
    for number in range(pairs):
        for side in ("left", "right"):
            del sys.modules[f"{side}_{number}"]
    errors: list[BaseException] = []
    start = threading.Barrier(len(chains))

    def load(data: bytes) -> None:
        start.wait()
        try:
            load_chain(data)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=load, args=(chain,)) for chain in chains]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
