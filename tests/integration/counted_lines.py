"""What jobs write that count by key, fire a timer for each record and add up windows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

__all__ = ["expected_lines", "written_lines"]


def expected_lines(records: int, keys: int, window_ms: int) -> Counter[str]:
    """Of the numbers from 1 up, which are their own event time: each line once."""
    lines: Counter[str] = Counter()
    seen: Counter[int] = Counter()
    sums: Counter[tuple[int, int]] = Counter()
    for n in range(1, records + 1):
        seen[n % keys] += 1
        lines[f"count {n % keys} {seen[n % keys]}"] += 1
        lines[f"timer {n % keys} {n + 500}"] += 1
        sums[n % keys, n // window_ms] += n
    lines.update(f"window {total}" for total in sums.values())
    return lines


def written_lines(out: Path) -> Counter[str]:
    """The lines of the files that are complete."""
    files = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return Counter(line for path in files for line in path.read_text().splitlines())
