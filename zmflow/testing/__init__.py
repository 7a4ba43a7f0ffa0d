"""Public instruments for tests of jobs and plugins."""

from zmflow.testing.harness import OperatorHarness, Record

__all__ = ["OperatorHarness", "Record"]
