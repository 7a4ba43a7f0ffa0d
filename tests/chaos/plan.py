"""What a run will do, drawn from its seed before anything happens.

A decision says whom to kill by place and not by process, and when by the time since the last kill, so
the same seed decides the same whatever the machine's speed makes of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.chaos.jobs import KINDS, JobKind, JobOrder
from tests.chaos.variants import INLINE_THRESHOLDS, LOCAL_RECOVERY, SWITCHES, Variant, shuffled

__all__ = ["KillDecision", "exactly_once_orders", "job_orders", "kill_decisions"]

WAIT_LEAST_MS = 300
WAIT_BEYOND_MS = 1100
"""Between two kills: at least the one and, on average, the other beyond it. That is 120 in three minutes,
some of them in the middle of a recovery, and now and then a break in which a large job can finish."""

REPLACED_AFTER_MS = (50, 800)
"""How long the place of a killed TaskManager stays empty. Its successor takes some 400 ms to start."""

WORKER_SHARE = 0.6
"""Kills of a single worker; the others take a whole TaskManager."""

EXACTLY_ONCE_WORK_MS = (3000, 6000)
"""Some checkpoints and some kills long."""

WORK_MS = (800, 2000)
"""What a job takes when nobody disturbs it: about as long as the breaks between kills that concern it."""


@dataclass(frozen=True)
class KillDecision:
    """Kill what is in this slot of this place, or in the next one where there is something."""

    wait_ms: int
    victim: Literal["worker", "taskmanager"]
    place: int
    slot: int
    replaced_after_ms: int
    in_checkpoint: bool = False  # not before a checkpoint of a job there is under way


IN_CHECKPOINT_SHARE = 0.5
"""Kills that wait for a checkpoint to be under way, where jobs have any: they hit those who write it."""

CHECKPOINT_INTERVAL_MS = 500


def kill_decisions(
    seed: int, taskmanagers: int, slots: int, *, in_checkpoint_share: float = 0.0
) -> Iterator[KillDecision]:
    """The kills of a run, without end."""
    chance = random.Random(f"kills of {seed}")
    while True:
        yield KillDecision(
            wait_ms=WAIT_LEAST_MS + round(chance.expovariate(1 / WAIT_BEYOND_MS)),
            victim="worker" if chance.random() < WORKER_SHARE else "taskmanager",
            place=chance.randrange(taskmanagers),
            slot=chance.randrange(slots),
            replaced_after_ms=chance.randint(*REPLACED_AFTER_MS),
            in_checkpoint=in_checkpoint_share > 0 and chance.random() < in_checkpoint_share,
        )


def job_orders(seed: int, lane: int) -> Iterator[JobOrder]:
    """The jobs of one lane, without end: every kind in a shuffled order, then all of them again."""
    chance = random.Random(f"jobs of {seed} in lane {lane}")
    number = 0
    while True:
        for kind in chance.sample(KINDS, len(KINDS)):
            number += 1
            yield JobOrder(
                name=f"{kind.name}-{lane}-{number}",
                kind=kind,
                work_ms=chance.randint(*WORK_MS),
                strategy=chance.choice(["fixed-delay", "exponential-delay"]),
                overwrite=chance.random() < 0.5,
            )


def exactly_once_orders(
    seed: int, lane: int, checkpoints: Path, kinds: Sequence[JobKind], variants: Sequence[Variant]
) -> Iterator[JobOrder]:
    """The jobs of one lane of the exactly-once run, without end."""
    chance = random.Random(f"exactly-once jobs of {seed} in lane {lane}")
    ways = shuffled(random.Random(f"variants of {seed} in lane {lane}"), variants)
    files = random.Random(f"files of {seed} in lane {lane}")
    number = 0
    while True:
        for kind in chance.sample(list(kinds), len(kinds)):
            number += 1
            variant = next(ways)
            yield JobOrder(
                name=f"{kind.name}-{lane}-{number}",
                kind=kind,
                work_ms=chance.randint(*EXACTLY_ONCE_WORK_MS),
                strategy="exponential-delay",
                overwrite=False,
                settings=(
                    ("execution.checkpointing.interval", f"{CHECKPOINT_INTERVAL_MS} ms"),
                    ("execution.checkpointing.dir", str(checkpoints)),
                    ("execution.checkpointing.data-inline-threshold", chance.choice(INLINE_THRESHOLDS)),
                    ("execution.checkpointing.tolerable-failed-checkpoints", "100"),
                    *variant.settings,
                    ("execution.checkpointing.incremental", files.choice(SWITCHES)),
                    *((name, copies) for copies in [files.choice(SWITCHES)] for name in LOCAL_RECOVERY),
                ),
                variant=str(variant),
            )
