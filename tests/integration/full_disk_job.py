"""A job whose checkpoints go to a file system that is full or read-only for a while.

``test_storage_in_trouble`` runs it in a mount namespace of its own.
Arguments: a directory; full or read-only.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.integration.cluster_executor import ClusterExecutor
from tests.integration.test_storage_in_trouble import EXPECTED, Trouble
from zmflow.runtime.mini_cluster import MiniCluster


def mount(directory: Path, options: str) -> None:
    """A file system in memory; nobody outside this namespace sees it."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=True)


def fill(path: Path) -> None:
    """Write until nothing fits any more."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC


def main(directory: Path, kind: str) -> None:
    """Begin in trouble, see it counted, end the trouble, see the job end right with nothing left behind."""
    trouble_code = errno.ENOSPC if kind == "full" else errno.EROFS
    with ExitStack() as stack:
        trouble = Trouble(ClusterExecutor(stack.enter_context(MiniCluster(1, 2))), directory)
        trouble.checkpoints.mkdir()
        mount(trouble.checkpoints, "size=1m")
        stack.callback(subprocess.run, ["umount", "-l", trouble.checkpoints], check=True)
        trouble.begin()
        trouble.wait_completed(2)
        ballast = trouble.checkpoints / "ballast"
        if kind == "full":
            fill(ballast)
        else:
            mount(trouble.checkpoints, "remount,ro")
        trouble.wait_failure(os.strerror(trouble_code))
        if kind == "full":
            ballast.unlink()
        else:
            mount(trouble.checkpoints, "remount,rw")
        trouble.fail()
        trouble.finish()
        assert trouble.written() == EXPECTED
        trouble.wait_deleted()
        print(trouble.summary().last_failure)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
