"""The shells: processes, threads, sockets, files and clocks around the brains."""
