"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

__all__: list[str] = []

# A test on a loaded machine may take longer than usual; pytest's own timeout finds what hangs.
settings.register_profile("zmflow", deadline=None)
settings.load_profile("zmflow")
