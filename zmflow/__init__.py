"""zmflow: Flink's dataflow runtime for Python, on bare machines, over ZeroMQ."""

from zmflow.api import *  # noqa: F403
