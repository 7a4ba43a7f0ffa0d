"""Checkpoints of the data plane: a job with its records in one thread, from one seed.

A small random job runs to its end while its tasks fail, its workers die, checkpoints are given up and the
parallelism changes. What happens next is one of the things that may: a message arrives, a task takes an item
of one of its channels, a snapshot is written. In the end every record must have come to the sink, exactly
once. Real are: ``CheckpointCoordinator``, ``JobLayout``, ``Restores``, ``TaskCheckpoints`` with
``BarrierAlignment``, ``SourceCoordinator`` with ``SplitAssignments``, ``ChainState``, state files, restoring,
``SinkCommits`` and the writers that spread records. Simulated are threads, links, channels and failures::

    python -m zmflow.testing.simulation.dataflow --seeds 0..10000
    python -m zmflow.testing.simulation.dataflow --seeds 4711 --trace
"""

from zmflow.testing.simulation.dataflow.run import run_dataflow

__all__ = ["run_dataflow"]
