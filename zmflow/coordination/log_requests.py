"""Questions for log lines that are on their way: who asked, and which TaskManagers have not answered."""

from __future__ import annotations

from zmflow.coordination.turn import Turn
from zmflow.protocol.messages import LogChunk

__all__ = ["LogRequests"]

LOG_REQUESTS_MAX = 1_000
"""Questions under way. Beyond it the oldest is forgotten; its client has given up long before."""


class LogRequests:
    """Routes each TaskManager's answer to the client that asked, and says how many are still to come."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[bytes, int], dict[str, None]] = {}
        self._jobs: dict[tuple[bytes, int], str] = {}

    def ask(self, peer: bytes, request_id: int, job_id: str, taskmanagers: list[str]) -> None:
        """Expect an answer of each of these TaskManagers."""
        if len(self._waiting) >= LOG_REQUESTS_MAX:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest], self._jobs[oldest]
        self._waiting[peer, request_id] = dict.fromkeys(taskmanagers)
        self._jobs[peer, request_id] = job_id

    def answered(self, turn: Turn, chunk: LogChunk) -> bool:
        """Pass an answer on. False when nobody waits for it."""
        try:
            key = (bytes.fromhex(chunk.reply_to), chunk.request_id)
        except ValueError:
            return False
        waiting = self._waiting.get(key)
        if waiting is None or chunk.source not in waiting:
            return False
        self._answer(turn, key, chunk.source, chunk.text)
        return True

    def taskmanager_gone(self, turn: Turn, taskmanager_id: str) -> None:
        """Its answers will not come: let those who wait go on with an empty one."""
        for key in [key for key, waiting in self._waiting.items() if taskmanager_id in waiting]:
            self._answer(turn, key, taskmanager_id, b"")

    def client_gone(self, peer: bytes) -> None:
        """Nobody reads the answers any more."""
        for key in [key for key in self._waiting if key[0] == peer]:
            del self._waiting[key], self._jobs[key]

    def _answer(self, turn: Turn, key: tuple[bytes, int], source: str, text: bytes) -> None:
        waiting, job_id = self._waiting[key], self._jobs[key]
        del waiting[source]
        if not waiting:
            del self._waiting[key], self._jobs[key]
        turn.send(key[0], LogChunk(turn.epoch, key[1], job_id, key[0].hex(), source, text, len(waiting)))
