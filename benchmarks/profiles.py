"""A job with much heap state that can be killed: one profile per user, kept in one keyed process function.

The source first names every user once, in order, and then goes on over them at a steady pace for ever. Each
record changes the profile of its user; that it is the right one is checked every time. The function leaves
notes in a directory: when all users have a profile, and when a task saw its first record.
"""

from __future__ import annotations

import os
import pickle
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.memory import resident_bytes
from zmflow import (
    Configuration,
    EndOfInput,
    KeyedProcessFunction,
    RuntimeContext,
    Source,
    SourceReader,
    SplitEnumerator,
    StreamExecutionEnvironment,
    ValueState,
    ValueStateDescriptor,
)
from zmflow.api.environment import environment_context
from zmflow.api.sources import SplitEnumeratorContext
from zmflow.config import Settings
from zmflow.protocol.messages import JobStatus
from zmflow.runtime.client import ClusterClient
from zmflow.runtime.job_client import RemoteJobClient

__all__ = [
    "Note",
    "ProfileJob",
    "new_profile",
    "profile_job",
    "users_of_size",
    "wait_for",
]

RECORDS_PER_BATCH = 500
RECORDS_PER_PACED_BATCH = 50
PAUSE_S = 0.005
"""Between paced batches: some 10,000 records a second, half a core."""

ABOUT_LENGTH = 600
RECENT = 16

WAIT_TIMEOUT_S = 850
"""A little less than a process of a round may take."""

POLL_INTERVAL_S = 0.002

_TEXT = "".join(random.Random(7).choices("abcdefghijklmnopqrstuvwxyz     ", k=2**20))

Profile = dict[str, Any]


def new_profile(user: str) -> Profile:
    """What is kept of a user: some 900 bytes pickled, in texts, numbers, a list and a dict.

    >>> new_profile("user-7")["visits"]
    0
    """
    number = int(user.rpartition("-")[2])
    start = number * 7919 % (len(_TEXT) - ABOUT_LENGTH)
    return {
        "user": user,
        "visits": 0,
        "last_seen_ms": 1_790_000_000_000 + number,
        "about": _TEXT[start : start + ABOUT_LENGTH],
        "recent": [number + place / RECENT for place in range(RECENT)],
    }


def users_of_size(state_bytes: int) -> int:
    """How many users have so many bytes of state, pickled.

    >>> 900_000 < users_of_size(10**9) < 1_300_000
    True
    """
    sample = [f"user-{number}" for number in range(10_000, 11_000)]
    pickled = pickle.dumps((sample, [new_profile(user) for user in sample]), pickle.HIGHEST_PROTOCOL)
    return max(1, state_bytes * len(sample) // len(pickled))


class _Enumerator(SplitEnumerator[int]):
    """One split: the number to go on from."""

    def __init__(self, context: SplitEnumeratorContext[int], left: Sequence[int]) -> None:
        self._context = context
        self._left = list(left)

    def handle_split_request(self, subtask: int) -> None:
        if self._left:
            self._context.assign_splits([self._left.pop()], subtask)

    def add_splits_back(self, splits: Sequence[int], subtask: int) -> None:  # noqa: ARG002 - of the interface
        self._left.extend(splits)

    def snapshot_state(self, checkpoint_id: int) -> list[int]:  # noqa: ARG002 - of the interface
        return list(self._left)


class VisitSource(Source[int, int]):
    """The numbers from 0 on; after the first ``users`` of them at a pace."""

    name = "Visits"
    bounded = False

    def __init__(self, users: int) -> None:
        self._users = users

    def create_enumerator(self, context: SplitEnumeratorContext[int]) -> SplitEnumerator[int]:
        return _Enumerator(context, [0])

    def restore_enumerator(self, context: SplitEnumeratorContext[int], state: Any) -> SplitEnumerator[int]:
        return _Enumerator(context, state)

    def create_reader(self, context: RuntimeContext) -> SourceReader[int, int]:  # noqa: ARG002 - of the interface
        return _VisitReader(self._users)


class _VisitReader(SourceReader[int, int]):
    def __init__(self, users: int) -> None:
        self._users = users
        self._next: int | None = None

    def add_splits(self, splits: Sequence[int]) -> None:
        (self._next,) = splits

    def notify_no_more_splits(self) -> None:
        pass

    def poll_next(self) -> Sequence[int] | EndOfInput | None:
        first = self._next
        if first is None:
            return None
        if first < self._users:
            self._next = min(first + RECORDS_PER_BATCH, self._users)
        else:
            time.sleep(PAUSE_S)
            self._next = first + RECORDS_PER_PACED_BATCH
        return range(first, self._next)

    def snapshot_state(self, checkpoint_id: int) -> Sequence[int]:  # noqa: ARG002 - of the interface
        return [] if self._next is None else [self._next]


@dataclass(frozen=True)
class Note:
    """What a task left in the directory. ``restored``: its user had a profile already."""

    wall_ms: float
    memory_bytes: int
    restored: bool


class ProfileKeeper(KeyedProcessFunction[str, tuple[str, int], int]):
    """Keeps the profiles."""

    profile: ValueState[Profile]

    def __init__(self, users: int, directory: str) -> None:
        self._last = users - 1
        self._users = users
        self._directory = directory
        self._begun = False

    def open(self, runtime_context: RuntimeContext) -> None:
        self.profile = runtime_context.get_state(ValueStateDescriptor("profile"))

    def process_element(
        self,
        value: tuple[str, int],
        ctx: KeyedProcessFunction.Context[str],  # noqa: ARG002 - of the interface
    ) -> Iterator[int]:
        user, number = value
        found = self.profile.value()
        if not self._begun:
            self._begun = True
            self._note("first", found is not None)
        if found is None:
            assert number < self._users, f"The profile of {user} is lost."
            found = new_profile(user)
        assert found["user"] == user, (user, found["user"])
        visits = number // self._users
        assert found["visits"] == visits, (user, found["visits"], visits)
        self.profile.update(
            found | {"visits": visits + 1, "recent": [*found["recent"][1:], float(number)]},
        )
        if number == self._last:
            self._note("full", restored=False)
        yield visits

    def _note(self, what: str, restored: bool) -> None:
        note = Note(time.time() * 1000, resident_bytes(), restored)
        temporary = Path(self._directory) / f".{what}-{os.getpid()}"
        temporary.write_bytes(msgspec.json.encode(note))
        temporary.replace(Path(self._directory) / f"{what}-{os.getpid()}.note")


def _nothing(visits: int) -> None:
    assert visits >= 0


@dataclass(frozen=True)
class ProfileJob:
    """The job while it runs."""

    client: ClusterClient
    job_id: str
    directory: Path

    def notes(self, what: str) -> list[Note]:
        """The notes of one sort, oldest first."""
        found = [
            msgspec.json.decode(path.read_bytes(), type=Note)
            for path in self.directory.glob(f"{what}-*.note")
        ]
        return sorted(found, key=lambda note: note.wall_ms)

    def status(self) -> JobStatus:
        """The job as it is now.

        Raises:
            AssertionError: it has ended.
        """
        status = self.client.get_job(self.job_id)
        assert status.summary.state not in ("FAILED", "FINISHED", "CANCELED"), (status.reason, status.failure)
        return status


def wait_for(what: str, arrived: Callable[[], Any]) -> Any:
    """What ``arrived()`` gives once it is true.

    Raises:
        AssertionError: it never is.
    """
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    while not (found := arrived()):
        assert time.monotonic() < deadline, f"Waited for {what} in vain."
        time.sleep(POLL_INTERVAL_S)
    return found


@contextmanager
def profile_job(
    users: int, directory: Path, cluster: Mapping[str, str], job_settings: Mapping[str, str]
) -> Iterator[ProfileJob]:
    """Run the job on a cluster until the end of the block, then cancel it; every user has a profile.

    Args:
        users: how many there are.
        directory: for notes and checkpoints.
        cluster: the settings with which the JobManager is found.
        job_settings: of the job.
    """
    settings = Settings().with_values(dict(cluster), "benchmark")
    with environment_context(settings):
        env = StreamExecutionEnvironment.get_execution_environment(
            Configuration.from_dict(
                {"execution.checkpointing.dir": str(directory / "checkpoints"), **job_settings}
            )
        )
        env.set_parallelism(1)
        visits = env.from_source(VisitSource(users)).map(lambda number: (f"user-{number % users}", number))
        kept = visits.key_by(lambda visit: visit[0]).process(ProfileKeeper(users, str(directory)))
        kept.add_sink(_nothing)
        submitted = env.execute_async("profiles")
    assert isinstance(submitted, RemoteJobClient)
    job_id = submitted.get_job_id()
    submitted.close()
    client = ClusterClient(settings)
    job = ProfileJob(client, job_id, directory)
    try:
        wait_for("all profiles", lambda: job.status() and job.notes("full"))
        yield job
        client.cancel_job(job_id)
        wait_for("the end of the job", lambda: client.get_job(job_id).summary.finished_ms)
    finally:
        client.close()
