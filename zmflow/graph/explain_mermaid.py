"""A plan as a Mermaid flowchart, for documents that render it."""

from __future__ import annotations

from zmflow.graph.explain_palette import colours_by_group
from zmflow.graph.explain_text import TIMES
from zmflow.graph.plan import PlanDescription

__all__ = ["render_mermaid"]


def render_mermaid(plan: PlanDescription) -> str:
    """One node per chain, listing its operators; one arrow per exchange, with its partitioner.

    A node says what its slots have and what it is co-located by, where the program asked for it.
    """
    lines = ["flowchart LR"]
    resources = {group.name: group.resources for group in plan.sharing_groups}
    for chain in plan.chains:
        rows = [f"<b>{chain.vertex_id} {TIMES} {chain.parallelism}</b>"]
        rows += [_escaped(operator.name) for operator in chain.chain]
        asked = resources[chain.sharing_group]
        if asked.particular:
            rows.append(f"<i>slots of {_escaped(asked.text)}</i>")
        if chain.co_location_group:
            rows.append(f"<i>co-located by {_escaped(chain.co_location_group)}</i>")
        lines.append(f'    {chain.vertex_id}["{"<br/>".join(rows)}"]')
    lines += [f"    {edge.source} -- {edge.partitioner} --> {edge.target}" for edge in plan.exchanges]
    colours = colours_by_group([group.name for group in plan.sharing_groups])
    for number, group in enumerate(plan.sharing_groups):
        colour = colours[group.name]
        lines.append(
            f"    classDef group{number} fill:{colour.fill},stroke:{colour.stroke},color:{colour.text}"
        )
        lines.append(f"    class {','.join(group.vertices)} group{number}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Text that Mermaid shows as it is: its entities are written with # and without &.

    >>> _escaped('a "b" <c>')
    'a #quot;b#quot; #lt;c#gt;'
    """
    codes = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;"}
    return "".join(codes.get(character, character) for character in " ".join(text.split()))
