"""The decisions of a running task: compiled chains, gates, partitioning. No sockets, threads, clocks."""
