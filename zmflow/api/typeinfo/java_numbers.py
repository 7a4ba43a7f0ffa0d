"""Numbers as Java has them: integers that wrap, floats of 32 bits, and how both are written."""

from __future__ import annotations

import math
import struct
from decimal import Decimal

__all__ = ["double_text", "float_text", "to_float32", "wrapped"]

_FLOAT32 = struct.Struct("f")

_POSITIONAL_MIN = 1e-3
_POSITIONAL_END = 1e7
"""Java writes numbers from the one to just below the other without an exponent."""

_FLOAT32_DIGITS_MAX = 9
"""So many digits tell any two floats of 32 bits apart."""


def wrapped(value: int, bits: int) -> int:
    """The number that is left when only so many bits are kept, the first of them the sign.

    >>> wrapped(9147483648, 32), wrapped(43878, 16), wrapped(-1, 8)
    (557549056, -21658, -1)
    """
    half = 1 << (bits - 1)
    return ((value + half) & ((1 << bits) - 1)) - half


def to_float32(value: float) -> float:
    """The nearest number that 32 bits can hold; infinity for one that is too large.

    >>> to_float32(163.3), to_float32(1e300)
    (163.3000030517578, inf)
    """
    try:
        nearest: float = _FLOAT32.unpack(_FLOAT32.pack(value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return nearest


def double_text(value: float) -> str:
    """What Java's ``Double.toString`` gives.

    >>> double_text(3), double_text(1e7), double_text(5e-324), double_text(float("-inf"))
    ('3.0', '1.0E7', '4.9E-324', '-Infinity')
    """
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or _POSITIONAL_MIN <= abs(value) < _POSITIONAL_END:
        return repr(value)
    # Two digits where one would do: Java takes the nearest of those, which matters to the smallest numbers.
    two = f"{value:.1e}"
    shortest = two if float(two) == value else repr(value)
    sign, digits, exponent = Decimal(shortest).normalize().as_tuple()
    assert isinstance(exponent, int)  # of a finite number it is
    fraction = "".join(map(str, digits[1:])) or "0"
    return f"{'-' if sign else ''}{digits[0]}.{fraction}E{exponent + len(digits) - 1}"


def float_text(value: float) -> str:
    """What Java's ``Float.toString`` gives: no more digits than tell it from other floats of 32 bits.

    >>> float_text(to_float32(163.3)), float_text(to_float32(1e10))
    ('163.3', '1.0E10')
    """
    for digits in range(2, _FLOAT32_DIGITS_MAX + 1):  # two at least, as above
        shorter = float(f"{value:.{digits}g}")
        if to_float32(shorter) == value:
            return double_text(shorter)
    return double_text(value)
