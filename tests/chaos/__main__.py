"""``python -m tests.chaos kill | exactly-once | neighbour``: what holds while processes are killed."""

from __future__ import annotations

import argparse
import math
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from tests.chaos import exactly_once, kill, neighbour
from tests.chaos.database import MISSING, is_installed
from tests.chaos.measurements import Bounds, KillReport
from tests.chaos.variants import BACKENDS

__all__ = ["main"]

KILLS_PER_MINUTE_LEAST = 100 / 3
"""100 kills in the three minutes of the acceptance run."""


EXACTLY_ONCE_BOUNDS = Bounds(detection_ms=1000, recovery_ms=2000, kills_least=0)
"""Processing again within 2 s after a TaskManager was killed, state read from the checkpoint included."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    killing = commands.add_parser("kill", help="kill -9 of workers and TaskManagers while jobs run")
    killing.add_argument("--minutes", type=float, default=3.0, help="how long to kill; default: 3")
    killing.add_argument("--kills", type=int, metavar="N", help="stop after so many kills")
    killing.add_argument("--seed", type=int, default=7, help="of all decisions; default: 7")
    killing.add_argument("--logs", type=Path, metavar="DIR", help="keep the daemons' logs there")
    once = commands.add_parser("exactly-once", help="kill -9 in and between checkpoints")
    once.add_argument("--kills", type=int, default=200, metavar="N", help="how often to kill; default: 200")
    once.add_argument("--seed", type=int, default=7, help="of all decisions; default: 7")
    once.add_argument("--backend", choices=BACKENDS, help="of the state of all jobs; default: both in turn")
    once.add_argument("--no-postgres", action="store_true", help="without jobs that write to PostgreSQL")
    once.add_argument("--logs", type=Path, metavar="DIR", help="keep the daemons' logs there")
    beside = commands.add_parser("neighbour", help="what a killed worker does to the job beside it")
    beside.add_argument("--rounds", type=int, default=5, help="kills; default: 5")
    for command in (killing, once, beside):
        command.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser


def _kill(options: argparse.Namespace) -> bool:
    least = math.floor(options.minutes * KILLS_PER_MINUTE_LEAST) if options.kills is None else options.kills
    report = kill.run(
        seed=options.seed,
        seconds=options.minutes * 60,
        kills_max=options.kills if options.kills is not None else sys.maxsize,
        bounds=replace(kill.STRICT, kills_least=least),
        say=lambda line: print(line, file=sys.stderr if options.json else sys.stdout, flush=True),
        log_dir=options.logs,
    )
    if options.json:
        print(msgspec.json.encode(report).decode())
    else:
        _print_kills(report)
    return report.holds


def _exactly_once(options: argparse.Namespace) -> bool:
    report = exactly_once.run(
        seed=options.seed,
        kills_max=options.kills,
        bounds=EXACTLY_ONCE_BOUNDS,
        say=lambda line: print(line, file=sys.stderr if options.json else sys.stdout, flush=True),
        choices=exactly_once.Choices(
            backends=BACKENDS if options.backend is None else (options.backend,),
            postgres=not options.no_postgres,
        ),
        log_dir=options.logs,
    )
    if options.json:
        print(msgspec.json.encode(report).decode())
    else:
        _print_kills(report)
    return report.holds


def _neighbour(options: argparse.Namespace) -> bool:
    report = neighbour.run(rounds=options.rounds)
    if options.json:
        print(msgspec.json.encode(report).decode())
    else:
        quiet, shares = (
            ", ".join(f"{share:.2f}" for share in shares) for shares in (report.quiet, report.shares)
        )
        print(
            f"Records per second of the neighbour beside those of the {neighbour.WINDOW_S:g} s before:\n"
            f"  when nothing happens: {quiet}\n"
            f"  when a worker of the other job is killed: {shares}; median {report.median:.2f}, "
            f"must be at least {neighbour.SHARE_LEAST:g}\n"
            f"Restarts of the other job: {report.victim_restarts}; tasks of the neighbour that restarted: "
            f"{report.neighbour_restarted}\n{'Holds.' if report.holds else 'Does NOT hold.'}"
        )
    return report.holds


def _print_kills(report: KillReport) -> None:
    print(
        f"\n{report.kills} kills in {report.seconds:.0f} s with seed {report.seed}: "
        f"{report.kills_of_workers} workers, {report.kills_of_taskmanagers} TaskManagers\n"
        f"Jobs: {report.jobs_finished} of {report.jobs} finished with the right result, "
        f"{report.jobs_restarted} of them restarted, {report.restarts} restarts\n"
        f"A killed worker is noticed: {report.worker_detection_ms}\n"
        f"A killed TaskManager is noticed: {report.taskmanager_detection_ms}\n"
        f"From slots and delay to running: {report.recovery_ms}\n"
        f"The machine itself stood still for at most {report.longest_stall_ms:.0f} ms, which is taken off\n"
        f"Processes left behind: {len(report.left_behind)}"
    )
    for variant, counts in report.variants.items():
        print(
            f"{variant}: {counts.jobs} jobs, {counts.restarts} restarts; {counts.kills} kills, "
            f"{counts.kills_in_checkpoint} of them in a checkpoint; {counts.checkpoints} checkpoints, "
            f"{counts.checkpoints_in_flight} of them with records in flight (at most "
            f"{counts.in_flight_bytes_max} bytes), {counts.restored_in_flight} of those restored from"
        )
    for line in report.odd_failures:
        print(f"Odd, but recovered from: {line}")
    for line in [*report.wrong, *report.left_behind, *report.files_left, *report.broken]:
        print(f"WRONG: {line}")
    print("Everything holds." if report.holds else "Not everything holds.")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code is 1 when something does not hold, and 2 when something is missing."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "exactly-once" and not options.no_postgres and not is_installed():
        parser.error(MISSING)
    runs = {"kill": _kill, "exactly-once": _exactly_once, "neighbour": _neighbour}
    return 0 if runs[options.command](options) else 1


if __name__ == "__main__":
    # As Ctrl-C does: unwind, so that the daemons are ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
