"""How the jobs of an exactly-once run keep their state and align their checkpoints: each job has one way."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = [
    "ALIGNMENTS",
    "BACKENDS",
    "INLINE_THRESHOLDS",
    "LOCAL_RECOVERY",
    "SWITCHES",
    "UNALIGNED",
    "Variant",
    "shuffled",
    "variants",
]

UNALIGNED = "unaligned"

_BACKENDS: dict[str, dict[str, str]] = {
    "heap": {"state.backend.type": "hashmap"},
    "rocksdb": {"state.backend.type": "rocksdb"},
}

_ALIGNMENTS: dict[str, dict[str, str]] = {
    "aligned": {"execution.checkpointing.unaligned.enabled": "false"},
    "aligned with timeout": {
        "execution.checkpointing.unaligned.enabled": "true",
        "execution.checkpointing.aligned-checkpoint-timeout": "100 ms",
    },
    UNALIGNED: {
        "execution.checkpointing.unaligned.enabled": "true",
        "execution.checkpointing.aligned-checkpoint-timeout": "0 ms",
    },
}

BACKENDS = tuple(_BACKENDS)

ALIGNMENTS = tuple(_ALIGNMENTS)

INLINE_THRESHOLDS = ("0 b", "20 kb")
"""Every state a file, or small state in the metadata, which is the default: other processes write it."""

LOCAL_RECOVERY = ("execution.checkpointing.local-backup.enabled", "execution.state-recovery.from-local")

SWITCHES = ("true", "false")


@dataclass(frozen=True)
class Variant:
    """One way."""

    backend: str
    alignment: str

    def __str__(self) -> str:
        return f"{self.backend}, {self.alignment}"

    @property
    def settings(self) -> tuple[tuple[str, str], ...]:
        """What a job is told."""
        return (*_BACKENDS[self.backend].items(), *_ALIGNMENTS[self.alignment].items())


def variants(backends: Sequence[str] = BACKENDS, alignments: Sequence[str] = ALIGNMENTS) -> list[Variant]:
    """Every combination.

    >>> [str(variant) for variant in variants(["rocksdb"], ["aligned", "unaligned"])]
    ['rocksdb, aligned', 'rocksdb, unaligned']
    """
    return [Variant(*pair) for pair in itertools.product(backends, alignments)]


def shuffled(chance: random.Random, choices: Sequence[Variant]) -> Iterator[Variant]:
    """All of them in a drawn order, then all again, without end: a short run has each of them, too."""
    while True:
        yield from chance.sample(list(choices), len(choices))
