"""Which peer a ROUTER's connection belongs to: how it learns that a peer has gone.

A ROUTER knows peers by identity, its monitor tells of descriptors. Each message says on which descriptor it
came; from the first one of a peer both are known.
"""

from __future__ import annotations

__all__ = ["PeerConnections"]


class PeerConnections:
    """Descriptors and identities. Events must be told in the order the monitor gave them.

    >>> peers = PeerConnections()
    >>> peers.accepted(9); peers.heard(9, b"a"); peers.closed(9)
    >>> peers.take_departed(), peers.take_departed()
    ([b'a'], [])
    """

    def __init__(self) -> None:
        self._identities: dict[int, bytes] = {}
        self._closed: set[int] = set()  # and not accepted again: at most as many as there can be open files
        self._departed: list[bytes] = []

    def __len__(self) -> int:
        """Peers whose connection stands."""
        return len(self._identities)

    def accepted(self, descriptor: int) -> None:
        """A connection came; the system gives it a number that may have been another's before."""
        self._closed.discard(descriptor)

    def closed(self, descriptor: int) -> None:
        """A connection is closed. Messages of it may still be waiting to be read."""
        self._closed.add(descriptor)
        identity = self._identities.pop(descriptor, None)
        if identity is not None:
            self._departed.append(identity)

    def heard(self, descriptor: int, identity: bytes) -> None:
        """The first message of a peer; tell what the monitor has said before telling this."""
        if descriptor in self._closed:
            self._departed.append(identity)  # it came, spoke and went between two looks
            return
        before = self._identities.get(descriptor)
        if before is not None and before != identity:
            self._departed.append(before)  # the number is another's by now
        self._identities[descriptor] = identity

    def take_departed(self) -> list[bytes]:
        """Who has gone since the last call. Ask when everything that waited has been read."""
        departed, self._departed = self._departed, []
        return departed
