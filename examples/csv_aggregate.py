"""Totals per group out of a CSV file: rows become typed objects, a reduce per key adds them up.

    python examples/csv_aggregate.py
    zmflow run -p 2 examples/csv_aggregate.py -- --input sales.csv --group-by product

The file needs a header with the columns city, product, quantity and price_cents. Without ``--input`` a sample
of 20,000 rows is made.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from zmflow import RuntimeExecutionMode, StreamExecutionEnvironment
from zmflow.connectors import CsvFileSource

CITIES = ("Basel", "Bern", "Genève", "Lugano", "Zürich", "Zug, Canton of")
PRODUCTS = ("bread", "cheese", "chocolate", "wine")


@dataclass
class Sale:
    """A row of the file. Its texts are converted to these types; other columns are ignored."""

    city: str
    product: str
    quantity: int
    price_cents: int


@dataclass
class Total:
    """What is known of a group."""

    group: str
    sales: int
    quantity: int
    amount_cents: int

    def plus(self, other: Total) -> Total:
        """Both together."""
        return Total(
            self.group,
            self.sales + other.sales,
            self.quantity + other.quantity,
            self.amount_cents + other.amount_cents,
        )


def totals_of(path: str, group_by: str) -> list[Total]:
    """Runs the job and brings the totals back, the largest amount first."""
    env = StreamExecutionEnvironment.get_execution_environment()
    env.set_runtime_mode(RuntimeExecutionMode.BATCH)
    totals = (
        env.from_source(CsvFileSource(path, Sale), source_name="Sales")
        .map(lambda sale: Total(getattr(sale, group_by), 1, sale.quantity, sale.quantity * sale.price_cents))
        .key_by(lambda total: total.group)
        .reduce(lambda left, right: left.plus(right))
        .name("Add up")
    )
    with totals.execute_and_collect("csv aggregate") as rows:
        return sorted(rows, key=lambda total: (-total.amount_cents, total.group))


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, runs the job, shows a table."""
    parser = argparse.ArgumentParser(description="Adds up sales per group.")
    parser.add_argument("--input", metavar="PATH", help="a CSV file or a directory of them")
    parser.add_argument("--group-by", choices=["city", "product"], default="city")
    options = parser.parse_args(arguments)

    with tempfile.TemporaryDirectory() as directory:
        path = options.input or str(make_sample(Path(directory) / "sales.csv"))
        totals = totals_of(path, options.group_by)
    table = Table(options.group_by, box=SIMPLE_HEAD)
    for column in ("sales", "quantity", "amount"):
        table.add_column(column, justify="right")
    for total in totals:
        table.add_row(total.group, str(total.sales), str(total.quantity), f"{total.amount_cents / 100:.2f}")
    Console().print(table)


def make_sample(path: Path, rows: int = 20_000) -> Path:
    """Writes a file of sales, the same one each time."""
    chance = random.Random(7)  # noqa: S311 - not a secret
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["city", "product", "quantity", "price_cents"])
        for _ in range(rows):
            writer.writerow(
                [
                    chance.choice(CITIES),
                    chance.choice(PRODUCTS),
                    chance.randint(1, 9),
                    chance.randint(100, 5000),
                ]
            )
    return path


if __name__ == "__main__":
    main()
