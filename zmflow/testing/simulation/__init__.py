"""A whole cluster in one thread, from one seed.

The brains are the real ones: the JobManager's ``Dispatcher`` and the TaskManagers' ``TaskExecutor``.
Everything around them is simulated: the network, the processes, the clocks, the workers and the clients
live on a heap of (time, sequence, action), and one ``random.Random(seed)`` decides what happens. So what a
seed comes to is always the same, and a failure is replayed by its number::

    python -m zmflow.testing.simulation --seeds 0..10000
    python -m zmflow.testing.simulation --seeds 4711 --trace

A seed has three phases. While there are *faults*, messages are lost, repeated and late, ways are cut,
processes die and come back, clocks go wrong, TaskManagers come and go, tasks fail; after everything a brain
handles, the rules in ``invariants`` are checked. Then it is *calm*, and within ``goal.SETTLE_MS`` every job
must be where its client wants it, and what the leader says must be what the workers run. Then everything
is cancelled, and within ``goal.REST_MS`` nothing may live and all slots must be free.
"""

from zmflow.testing.simulation.campaign import Summary, run_seeds
from zmflow.testing.simulation.run import Outcome, run_seed

__all__ = ["Outcome", "Summary", "run_seed", "run_seeds"]
