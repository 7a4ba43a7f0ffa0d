"""The colours of slot sharing groups in pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Colour", "colours_by_group"]


@dataclass(frozen=True, slots=True)
class Colour:
    """A light fill, a stroke of the same hue and a text colour that reads on the fill."""

    fill: str
    stroke: str
    text: str


_PALETTE = (
    Colour("#e8f0fe", "#3b6fd4", "#12305f"),
    Colour("#fdeedc", "#d07a1d", "#5b3306"),
    Colour("#e4f5e9", "#2e8b57", "#0f4023"),
    Colour("#f6e8f8", "#9a4fb0", "#461455"),
    Colour("#fbe7ea", "#c8455b", "#5c101d"),
    Colour("#e2f4f6", "#24899a", "#0a414a"),
    Colour("#f5f3dc", "#988a1c", "#453f06"),
    Colour("#ececf1", "#6b6f85", "#2b2d3a"),
)


def colours_by_group(groups: Sequence[str]) -> dict[str, Colour]:
    """A colour for each group, in order; colours repeat after the eighth."""
    return {group: _PALETTE[index % len(_PALETTE)] for index, group in enumerate(groups)}
