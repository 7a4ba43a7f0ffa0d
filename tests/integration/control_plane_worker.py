"""A slot worker without a data plane: does what the names of its vertices say.

The control plane's tests run it in real processes forked by the real fork server.
"""

import os
import signal
import sys
import threading
from pathlib import Path

import zmq

from zmflow.protocol.messages import (
    CancelTasks,
    DataEndpoint,
    DeployTasks,
    FreeSlot,
    TaskDeployment,
    TaskFailure,
    TaskStateChanged,
    WorkerReady,
    decode_message,
    encode_message,
)
from zmflow.runtime.task_logs import task_log_path
from zmflow.runtime.worker_boot import WorkerBoot
from zmflow.telemetry.logs import configure_logging, redirect_output, task_context


def run_worker(boot: WorkerBoot) -> None:
    """Say WorkerReady, play the tasks, end at FreeSlot."""
    log_dir = Path(boot.log_dir)
    configure_logging(boot.allocation_id, None)
    redirect_output(task_log_path(log_dir, boot.job_id, boot.allocation_id), boot.echo_output)
    socket = zmq.Context().socket(zmq.DEALER)
    socket.identity = boot.allocation_id.encode()
    socket.connect(boot.control_endpoint)
    endpoint = DataEndpoint(boot.host_id, boot.data_ipc_endpoint, "tcp://127.0.0.1:1")
    socket.send(encode_message(WorkerReady(0, boot.allocation_id, os.getpid(), endpoint)))
    while True:
        message = decode_message(socket.recv())
        if isinstance(message, DeployTasks):
            for task in message.tasks:
                _play(socket, boot, task)
        elif isinstance(message, CancelTasks):
            for attempt in message.attempt_ids:
                socket.send(encode_message(TaskStateChanged(0, boot.allocation_id, attempt, "CANCELED")))
        elif isinstance(message, FreeSlot):
            socket.close(1000)
            return


def _play(socket: "zmq.Socket[bytes]", boot: WorkerBoot, task: TaskDeployment) -> None:
    def tell(state: str, failure: TaskFailure | None = None) -> None:
        message = TaskStateChanged(0, boot.allocation_id, task.attempt_id, state, failure)  # type: ignore[arg-type]
        socket.send(encode_message(message))

    tell("INITIALIZING")
    tell("RUNNING")
    with task_context(
        job_id=task.job_id, vertex=task.vertex_name, subtask=task.subtask_index, attempt=task.attempt_number
    ):
        print("hello from", task.vertex_name)
    match task.vertex_name:
        case "finish":
            tell("FINISHED")
        case "fail":
            failure = TaskFailure(
                "user",
                "ValueError: no",
                host=boot.host,
                vertex_name=task.vertex_name,
                operator_name="map",
                subtask_index=task.subtask_index,
                user_traceback='File "job.py", line 3, in broken\nValueError: no\n',
            )
            tell("FAILED", failure)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "wait":
            assert threading.active_count() >= 1
            sys.stdout.flush()
