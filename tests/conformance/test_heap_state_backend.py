"""The heap backend passes the conformance kit of state backends."""

from __future__ import annotations

import pytest

from zmflow.state.backend import load_state_backend
from zmflow.testing.state_backend_checks import MakeBackend
from zmflow.testing.state_backend_tests import StateBackendTests


class TestHeapStateBackend(StateBackendTests):
    """The backend that jobs get without asking."""

    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        return load_state_backend("hashmap")
