"""The decisions of a running task: compiled chains, gates, partitioning, credits. No sockets, threads or clocks."""
