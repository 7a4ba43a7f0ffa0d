"""The brains of the JobManager and the TaskManager: decisions without sockets, threads, clocks or chance."""
