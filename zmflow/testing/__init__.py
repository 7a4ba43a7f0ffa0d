"""Public instruments for tests of jobs and plugins."""

from zmflow.testing.harness import OperatorHarness, Record
from zmflow.testing.job_harness import JobHarness

__all__ = ["JobHarness", "OperatorHarness", "Record"]
