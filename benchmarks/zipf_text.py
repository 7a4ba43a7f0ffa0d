"""Text whose words are as unevenly frequent as those of a language: made from a seed, kept between runs."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections import Counter
from itertools import accumulate
from pathlib import Path

import msgspec

__all__ = ["ZipfText", "zipf_text"]

SEED = 20_240_229
EXPONENT = 1.07
"""Of word frequencies by rank, as measured on English books."""

WORDS_PER_LINE = 12
WORDS_PER_BLOCK = 240_000
VERSION = 1
"""To be raised when the same parameters would make another text."""


class ZipfText(msgspec.Struct, frozen=True):
    """A file of words, how many it has, and where their true counts are."""

    path: str
    counts_path: str
    words: int
    size_bytes: int

    def counts(self) -> dict[str, int]:
        """How often each word is in the file, counted when it was written."""
        return msgspec.json.decode(Path(self.counts_path).read_bytes(), type=dict[str, int])


def zipf_text(size_bytes: int, vocabulary: int = 100_000) -> ZipfText:
    """A file of about this size; made once and kept in the directory for temporary files."""
    directory = Path(tempfile.gettempdir()) / f"zmflow-benchmarks-{os.getuid()}"
    directory.mkdir(exist_ok=True)
    stem = directory / f"zipf-v{VERSION}-{vocabulary}-{size_bytes}"
    about = stem.with_suffix(".json")
    if about.exists():
        known = msgspec.json.decode(about.read_bytes(), type=ZipfText)
        if Path(known.path).exists() and Path(known.path).stat().st_size == known.size_bytes:
            return known
    print(f"  writing {size_bytes / 1e6:.0f} MB of text to {stem}.txt ...", file=sys.stderr, flush=True)
    text = _write(stem, size_bytes, vocabulary)
    about.write_bytes(msgspec.json.encode(text))
    return text


def _write(stem: Path, size_bytes: int, vocabulary: int) -> ZipfText:
    chance = random.Random(SEED)
    words = _vocabulary(chance, vocabulary)
    weights = list(accumulate(1 / (rank + 2.7) ** EXPONENT for rank in range(vocabulary)))
    counts: Counter[str] = Counter()
    path = stem.with_suffix(".txt")
    written = 0
    with path.open("w", encoding="ascii") as file:
        while written < size_bytes:
            block = chance.choices(words, cum_weights=weights, k=WORDS_PER_BLOCK)
            counts.update(block)
            lines = [
                " ".join(block[start : start + WORDS_PER_LINE])
                for start in range(0, len(block), WORDS_PER_LINE)
            ]
            written += file.write("\n".join(lines) + "\n")
    counts_path = stem.with_suffix(".counts")
    counts_path.write_bytes(msgspec.json.encode(counts))
    return ZipfText(str(path), str(counts_path), counts.total(), written)


def _vocabulary(chance: random.Random, size: int) -> list[str]:
    """Different words, the frequent ones short."""
    words: dict[str, None] = {}
    while len(words) < size:
        length = 2 + min(10, len(words).bit_length() // 3 + chance.randint(0, 4))
        words["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=length))] = None
    return list(words)
