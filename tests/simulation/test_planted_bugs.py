"""The simulator finds what it is for: each known bug within a thousand seeds."""

from __future__ import annotations

import pytest
from planted_bugs import BUGS

from zmflow.testing.simulation import run_seed

SEEDS_MAX = 1_000


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name):
    """Some of the first thousand seeds fails while the bug is there, and passes without it."""
    with BUGS[name]():
        caught = next((o for o in map(run_seed, range(SEEDS_MAX)) if o.violation), None)
    assert caught is not None, f"{BUGS[name].__doc__} {SEEDS_MAX} seeds did not show it"
    print(f"{name}: seed {caught.seed}: {caught.violation.splitlines()[0]}")
    assert not run_seed(caught.seed).violation, "it fails without the bug"
