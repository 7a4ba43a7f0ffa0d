"""One seed of the data plane, and what came of it."""

from __future__ import annotations

import traceback

from zmflow.testing.simulation.dataflow.flow import Flow
from zmflow.testing.simulation.run import Outcome
from zmflow.testing.simulation.world import Journal, Violation

__all__ = ["PROGRAM", "run_dataflow"]

PROGRAM = "zmflow.testing.simulation.dataflow"
"""What repeats a seed."""

STORY_ENTRIES_SHOWN = 40
"""Of what the coordinator decided."""


def run_dataflow(seed: int, *, trace: bool = False) -> Outcome:
    """Run the job of this seed; the same seed always comes to the same."""
    journal = Journal(on=trace)
    flow = Flow(seed, journal)
    violation, story = "", []
    try:
        flow.run()
    except Violation as broken:
        violation = f"{broken}"
    except Exception as error:  # noqa: BLE001 - whatever the engine raises is a finding
        where = traceback.format_exception(error)
        violation = f"{type(error).__name__}: {error}\n{''.join(where[-6:])}"
    if violation:
        story = _story(flow)
    return Outcome(seed, flow.steps, flow.now_ms, flow.faults, violation, story, journal.lines, PROGRAM)


def _story(flow: Flow) -> list[str]:
    plan = flow.plan
    lines = [
        "The job: "
        + ", ".join(f"{'+'.join(vertex.kinds)} ({vertex.name})" for vertex in plan.vertices)
        + (" exactly once" if plan.exactly_once else " at least once")
        + "".join(f", {key} {text}" for key, text in plan.settings.texts().items()),
        "What happened last:",
        *(f"  {line}" for line in flow.recent),
        "What the coordinator decided:",
    ]
    entries = flow.master.story.about()[-STORY_ENTRIES_SHOWN:]
    return lines + [f"  {e.at_ms:>7} {e.subject}: {e.sentence} [{e.cause}]" for e in entries]
