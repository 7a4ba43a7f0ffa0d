"""A plan as plain text."""

from __future__ import annotations

from zmflow.graph.plan import ExchangePlan, GroupPlan, PlanDescription, VertexPlan

__all__ = ["TIMES", "counted", "render_text", "slots_text"]

TIMES = "\N{MULTIPLICATION SIGN}"


def counted(count: int, noun: str) -> str:
    """A number and its noun.

    >>> counted(1, "slot"), counted(2, "slot"), counted(0, "vertex")
    ('1 slot', '2 slots', '0 vertices')
    """
    if count == 1:
        return f"{count} {noun}"
    return f"{count} {noun[:-2]}ices" if noun.endswith("ex") else f"{count} {noun}s"


def slots_text(group: GroupPlan) -> str:
    """The slots of a group and, where it asks for something, what each of them has."""
    slots = counted(group.slots, "slot")
    return f"{slots} of {group.resources.text}" if group.resources.particular else slots


def render_text(plan: PlanDescription) -> str:
    """Totals, then each chain with its operators and where its records go, then slots and co-location."""
    lines = [
        f"{plan.job_name}  ({plan.runtime_mode.lower()})",
        (
            f"{counted(plan.operators, 'operator')} in {counted(plan.vertices, 'chain')}; "
            f"{counted(plan.subtasks, 'subtask')} in {counted(plan.tasks, 'task')}; "
            f"{counted(plan.slots_required, 'slot')} needed"
        ),
        "",
    ]
    for chain in plan.chains:
        lines += _chain(chain, [edge for edge in plan.exchanges if edge.source == chain.vertex_id])
        lines.append("")
    width = max((len(group.name) for group in plan.sharing_groups), default=0)
    lines.append("Slot sharing groups")
    lines += [
        f"  {group.name:<{width}}  {slots_text(group)}: {', '.join(group.vertices)}"
        for group in plan.sharing_groups
    ]
    if plan.co_location_groups:
        width = max(len(group.name) for group in plan.co_location_groups)
        lines += ["", "Co-location groups"]
        lines += [
            f"  {group.name:<{width}}  {', '.join(group.vertices)}" for group in plan.co_location_groups
        ]
    return "\n".join(lines) + "\n"


def _chain(chain: VertexPlan, outputs: list[ExchangePlan]) -> list[str]:
    co_location = f", co-located by {chain.co_location_group}" if chain.co_location_group else ""
    lines = [
        (
            f"{chain.vertex_id}  {TIMES} {chain.parallelism}  "
            f"(max parallelism {chain.max_parallelism}, group {chain.sharing_group}{co_location})"
        )
    ]
    last = len(chain.chain) - 1
    for index, operator in enumerate(chain.chain):
        branch = "└─" if index == last and not outputs else "├─"
        uid = f"  uid {operator.uid}" if operator.uid else ""
        said = f'  "{" ".join(operator.description.split())}"' if operator.description else ""
        lines.append(f"  {branch} {operator.name}{uid}{said}")
    for index, edge in enumerate(outputs):
        branch = "└─" if index == len(outputs) - 1 else "├─"
        lines.append(f"  {branch}{edge.partitioner}─▶ {edge.target}  ({counted(edge.channels, 'channel')})")
    return lines
