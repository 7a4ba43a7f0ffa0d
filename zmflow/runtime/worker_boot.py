"""What a TaskManager tells a slot worker at its birth."""

from __future__ import annotations

import msgspec

__all__ = ["WorkerBoot"]


class WorkerBoot(msgspec.Struct, frozen=True):
    """Sent to the fork server, which forks a child and calls ``zmflow.runtime.worker.run_worker`` with it.

    The worker connects a DEALER with the identity ``allocation_id`` to ``control_endpoint`` (an ipc
    ROUTER of the TaskManager), sends ``WorkerReady`` and then exchanges single-part control messages.
    """

    allocation_id: str
    slot_index: int
    job_id: str
    taskmanager_id: str
    host: str  # name for people
    host_id: str  # equal exactly where ipc sockets can be shared
    control_endpoint: str
    data_ipc_endpoint: str  # the path the worker's data plane binds
    data_bind_host: str
    data_advertised_host: str
    settings: dict[str, str]
    log_dir: str
    echo_output: bool  # embedded cluster: print() also reaches the terminal
    curve_public_key: str = ""  # "" on loopback without keys
    curve_secret_key: str = ""
    managed_memory_bytes: int = 0  # this slot's share of what state backends and operators are given
    memory_limit_bytes: int = 0  # all the slot may use; 0: no limit
    external_resources: dict[str, list[int]] = {}  # pieces of named resources that are this slot's
    run_dir: str = ""  # for files that end with the worker; "" for the system's directory of such files
    files_dir: str = ""  # where the TaskManager puts the files of the job
    copies_dir: str = ""  # for copies of the job's snapshots, which the next worker may read; "" for none
