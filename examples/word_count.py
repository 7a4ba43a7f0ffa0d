"""Counts the words of text files.

    python examples/word_count.py
    python examples/word_count.py --input texts/ --input more.txt --output counts/
    zmflow run -p 4 examples/word_count.py -- --input texts/

Without ``--input`` it reads the sources of Python's own standard library. Without ``--output`` it shows the
most frequent words; with it, every word and its count go to files of lines ``word<tab>count``.
"""

from __future__ import annotations

import argparse
import heapq
import re
import sysconfig
import time
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from zmflow import RuntimeExecutionMode, StreamExecutionEnvironment
from zmflow.connectors import TextFileSink, TextFileSource

WORD = re.compile(r"[^\W\d_]+")


def words_of(line: str) -> list[str]:
    """The words of a line, in lower case."""
    return WORD.findall(line.lower())


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, builds the dataflow, runs it."""
    options = parse(arguments)
    if options.input:
        source = TextFileSource(options.input, pattern=options.pattern, errors=options.errors)
    else:
        # Some of the library's test files are in other encodings, on purpose.
        source = TextFileSource(
            sysconfig.get_path("stdlib"),
            pattern=options.pattern or "*.py",
            exclude=["site-packages", "dist-packages"],
            errors="replace",
        )
    env = StreamExecutionEnvironment.get_execution_environment()
    # The input ends, so each word's final count will do: no running counts in between.
    env.set_runtime_mode(RuntimeExecutionMode.BATCH)
    counts = (
        env.from_source(source, source_name="Text files")
        .flat_map(words_of)
        .name("Split")
        .map(lambda word: (word, 1))
        .key_by(lambda pair: pair[0])
        .sum(1)
        .name("Count")
    )
    started = time.perf_counter()
    if options.output:
        sink: TextFileSink[tuple[str, int]] = TextFileSink(
            options.output, lambda pair: f"{pair[0]}\t{pair[1]}", overwrite=options.overwrite
        )
        counts.sink_to(sink).name("Files")
        env.execute("word count")
        result = f"The counts are in {options.output}."
    else:
        with counts.execute_and_collect("word count") as rows:
            result = show(list(rows), options.top)
    elapsed = time.perf_counter() - started
    files = source.files()
    megabytes = sum(file.size_bytes for file in files) / 1e6
    print(f"{len(files):,} files, {megabytes:,.1f} MB, in {elapsed:.1f} s. {result}")


def show(counts: list[tuple[str, int]], top: int) -> str:
    """Shows the most frequent words as a table and says how many there are in all."""
    table = Table("word", box=SIMPLE_HEAD)
    table.add_column("count", justify="right")
    for word, count in heapq.nsmallest(top, counts, key=lambda pair: (-pair[1], pair[0])):
        table.add_row(word, f"{count:,}")
    Console().print(table)
    return f"{sum(count for _, count in counts):,} words, {len(counts):,} of them different."


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description="Counts the words of text files.")
    parser.add_argument(
        "--input",
        action="append",
        metavar="PATH",
        help="a file, a directory or a glob; may be repeated (default: Python's standard library)",
    )
    parser.add_argument("--pattern", help="which files of directories to read, such as '*.txt'")
    parser.add_argument(
        "--errors",
        choices=["strict", "replace"],
        default="strict",
        help="what to do about bytes that are not UTF-8 (default: %(default)s)",
    )
    parser.add_argument("--output", metavar="DIR", help="write all counts to files in this directory")
    parser.add_argument("--overwrite", action="store_true", help="replace the files of an earlier run")
    parser.add_argument("--top", type=int, default=20, help="how many words to show (default: %(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
