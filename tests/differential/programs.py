"""Programs as a user of PyFlink writes them, made from a seed: pipelines whose lines both engines must print.

Left out is what PyFlink 2.3 gets wrong or leaves open: rows printed as a whole, the order of mappings with
several entries, integers that overflow inside a function (it raises there and wraps at a source), and types
declared between two functions that it fuses (it does not apply them).
"""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["Values", "program"]

PIPELINES = 12
"""Per program. Starting PyFlink takes seconds, so that a program of one pipeline would measure that."""

RECORDS_MAX = 9

Values = Callable[[random.Random], str]
"""Makes the source text of one value."""


def _integer(bits: int) -> Values:
    edge = 2 ** (bits - 1)

    def make(chance: random.Random) -> str:
        return str(chance.choice([0, 1, -1, edge - 1, -edge, chance.randrange(-edge, edge)]))

    return make


def _double(chance: random.Random) -> str:
    exponent = chance.choice([0, 0, 0, -5, -3, 3, 7, 20])
    return repr(round(chance.uniform(-10, 10), chance.randrange(0, 6)) * 10.0**exponent)


def _float(chance: random.Random) -> str:
    return repr(round(chance.uniform(-1000, 1000), chance.randrange(0, 4)))


def _text(chance: random.Random) -> str:
    return repr("".join(chance.choices("abcxyz äöü,()[]'\"", k=chance.randrange(0, 6))))


def _day(chance: random.Random) -> str:
    return f"{chance.randrange(1971, 2100)}, {chance.randrange(1, 13)}, {chance.randrange(1, 29)}"


def _date(chance: random.Random) -> str:
    return (
        f"datetime.date({chance.randrange(1971, 2100)}, {chance.randrange(1, 13)}, {chance.randrange(1, 29)})"
    )


def _time(chance: random.Random) -> str:
    return f"datetime.time({chance.randrange(24)}, {chance.randrange(60)}, {chance.randrange(60)})"


def _timestamp(chance: random.Random) -> str:
    clock = f"{chance.randrange(24)}, {chance.randrange(60)}, {chance.randrange(60)}"
    return f"datetime.datetime({_day(chance)}, {clock}, {chance.choice([0, 500_000, 120_000, 123_456])})"


SCALARS: dict[str, Values] = {
    "Types.BYTE()": _integer(8),
    "Types.SHORT()": _integer(16),
    "Types.INT()": _integer(32),
    "Types.LONG()": _integer(64),
    "Types.DOUBLE()": _double,
    "Types.FLOAT()": _float,
    "Types.BOOLEAN()": lambda chance: chance.choice(["True", "False"]),
    "Types.STRING()": _text,
    "Types.SQL_DATE()": _date,
    "Types.SQL_TIME()": _time,
    "Types.SQL_TIMESTAMP()": _timestamp,
}


def _some_type(chance: random.Random) -> tuple[str, Values]:
    """A scalar, or a list or an inner tuple of them."""
    name, make = chance.choice(list(SCALARS.items()))
    shape = chance.random()
    if shape < 0.15 and name != "Types.BYTE()":  # PyFlink wants bytes where a list of BYTE is declared
        return f"Types.LIST({name})", lambda chance: f"[{', '.join(make(chance) for _ in range(2))}]"
    if shape < 0.3:
        other, make_other = chance.choice(list(SCALARS.items()))
        return (
            f"Types.TUPLE([{name}, {other}])",
            lambda chance: f"({make(chance)}, {make_other(chance)})",
        )
    return name, make


def _records(chance: random.Random, make: Values) -> str:
    return f"[{', '.join(make(chance) for _ in range(chance.randrange(1, RECORDS_MAX + 1)))}]"


def _declared(chance: random.Random) -> str:
    """Values that a map declares as something."""
    name, make = _some_type(chance)
    return f"env.from_collection({_records(chance, make)}).map(lambda v: v, output_type={name})"


def _from_typed_source(chance: random.Random) -> str:
    """Integers wider than their declared type, at a source: they wrap."""
    bits, name = chance.choice([(16, "Types.SHORT()"), (32, "Types.INT()"), (8, "Types.BYTE()")])
    return f"env.from_collection({_records(chance, _integer(bits + 4))}, type_info={name})"


def _tuples(chance: random.Random) -> str:
    fields = [("Types.INT()", _integer(20)), *(_some_type(chance) for _ in range(chance.randrange(1, 4)))]
    types = f"Types.TUPLE([{', '.join(name for name, _ in fields)}])"
    records = _records(chance, lambda chance: f"({', '.join(make(chance) for _, make in fields)})")
    stream = f"env.from_collection({records}).map(lambda v: v, output_type={types})"
    if chance.random() < 0.5:
        stream += f".filter(lambda v: v[0] % {chance.randrange(2, 4)} != 0)"
    if chance.random() < 0.5:
        stream += f".map(lambda v: v[1], output_type={fields[1][0]})"
    return stream


def _rows(chance: random.Random) -> str:
    """Fields by name, out of rows of a declared type."""
    plain = [(name, make) for name, make in SCALARS.items() if "SQL" not in name]
    (first, make_first), (second, make_second) = chance.choices(plain, k=2)
    records = _records(chance, lambda chance: f"({make_first(chance)}, {make_second(chance)})")
    row = f"Types.ROW_NAMED(['x', 'y'], [{first}, {second}])"
    return (
        f"env.from_collection({records}, type_info={row})"
        f".map(lambda v: (v.y, v['x']), output_type=Types.TUPLE([{second}, {first}]))"
    )


def _keyed(chance: random.Random) -> str:
    records = _records(
        chance,
        lambda chance: f"({chance.choice('abc')!r}, {chance.randrange(-99, 99)}, {chance.randrange(9)})",
    )
    types = "Types.TUPLE([Types.STRING(), Types.INT(), Types.INT()])"
    stream = f"env.from_collection({records}).map(lambda v: v, output_type={types}).key_by(lambda v: v[0])"
    reduced = "reduce(lambda a, b: (a[0], a[1] + b[1], max(a[2], b[2])))"
    call = chance.choice([reduced, "sum(1)", "min(1)", "max(1)", "min_by(1)", "max_by(1)"])
    return f"{stream}.{call}"


def _undeclared(chance: random.Random) -> str:
    makers = [make for name, make in SCALARS.items() if "SQL" not in name]
    records = _records(
        chance, lambda chance: f"({chance.choice(makers)(chance)}, {chance.choice(makers)(chance)})"
    )
    times = chance.randrange(3)
    return f"env.from_collection({records}).flat_map(lambda v: [v] * {times})"


def _union(chance: random.Random) -> str:
    name, make = _some_type(chance)
    one, two = (
        f"env.from_collection({_records(chance, make)}).map(lambda v: v, output_type={name})"
        for _ in range(2)
    )
    return f"{one}.union({two})"


KINDS = [_declared, _from_typed_source, _tuples, _rows, _keyed, _undeclared, _union]


def program(seed: int) -> str:
    """The text of the program of a seed."""
    chance = random.Random(seed)
    lines = [
        "import datetime",
        "from pyflink.common import Row, Types",
        "from pyflink.datastream import StreamExecutionEnvironment",
        "env = StreamExecutionEnvironment.get_execution_environment()",
        "env.set_parallelism(1)",
    ]
    for number in range(PIPELINES):
        lines.append(f"({chance.choice(KINDS)(chance)}).print('{number}')")
    lines.append("env.execute()")
    return "\n".join(lines) + "\n"
