"""A plan as an SVG picture: a box per chain, an arrow per exchange, a colour per slot sharing group."""

from __future__ import annotations

from itertools import pairwise
from xml.sax.saxutils import escape

from zmflow.graph.explain_layout import Layout, Point, Route, Size, lay_out
from zmflow.graph.explain_palette import Colour, colours_by_group
from zmflow.graph.explain_text import TIMES, counted, slots_text
from zmflow.graph.plan import ExchangePlan, PlanDescription, VertexPlan

__all__ = ["render_svg"]

MARGIN = 28.0
TITLE_HEIGHT = 64.0
LEGEND_ROW_HEIGHT = 24.0
LEGEND_INDENT = 22.0
HEADER_HEIGHT = 30.0
LINE_HEIGHT = 22.0
PADDING = 12.0
CHARACTER_WIDTH = 7.3  # of the fonts below at 13 px, on the generous side
NAME_LENGTH_MAX = 44
BOX_WIDTH_LEAST = 150.0
PICTURE_WIDTH_LEAST = 520.0

_STYLE = """
text { font-family: ui-sans-serif, system-ui, "Segoe UI", "DejaVu Sans", Helvetica, Arial, sans-serif; }
.job { font-size: 18px; font-weight: 600; fill: #1f2430; }
.sum { font-size: 13px; fill: #5a6072; }
.head { font-size: 13px; font-weight: 600; fill: #ffffff; }
.operator { font-size: 13px; }
.label { font-size: 11px; font-weight: 600; fill: #444a5a; letter-spacing: .04em; }
.arrow { fill: none; stroke: #7a8194; stroke-width: 1.6; }
""".strip()


def render_svg(plan: PlanDescription) -> str:
    """The picture as one self-contained SVG document."""
    sizes = {chain.vertex_id: _box_size(chain) for chain in plan.chains}
    label_width = max((_label_width(edge) for edge in plan.exchanges), default=0.0) + 40.0
    layout = lay_out(plan, sizes, label_width)
    colours = colours_by_group([group.name for group in plan.sharing_groups])
    legend = _legend_texts(plan)
    legend_height = LEGEND_ROW_HEIGHT * len(legend)
    legend_width = LEGEND_INDENT + CHARACTER_WIDTH * max(map(len, legend))
    summary = (
        f"{counted(plan.operators, 'operator')} in {counted(plan.vertices, 'chain')} · "
        f"{counted(plan.subtasks, 'subtask')} in {counted(plan.tasks, 'task')} · "
        f"{counted(plan.slots_required, 'slot')} needed · {plan.runtime_mode.lower()}"
    )
    width = max(layout.size.width, legend_width, PICTURE_WIDTH_LEAST) + 2 * MARGIN
    height = MARGIN + TITLE_HEIGHT + layout.size.height + MARGIN + legend_height + MARGIN
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">'
        ),
        f"<title>{_text(plan.job_name)}</title>",
        f"<style>{_STYLE}</style>",
        (
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
            'orient="auto"><path d="M0 0.8 L10 5 L0 9.2 z" fill="#7a8194"/></marker></defs>'
        ),
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="10" fill="#ffffff"/>',
        f'<text class="job" x="{MARGIN}" y="{MARGIN + 16}">{_text(plan.job_name)}</text>',
        f'<text class="sum" x="{MARGIN}" y="{MARGIN + 38}">{_text(summary)}</text>',
        f'<g transform="translate({MARGIN} {MARGIN + TITLE_HEIGHT})">',
        *(_arrow(layout.routes[edge.edge_id]) for edge in plan.exchanges),
        *(_box(chain, layout, colours[chain.sharing_group]) for chain in plan.chains),
        *(_label(edge, layout.routes[edge.edge_id]) for edge in plan.exchanges),
        "</g>",
        _legend(plan, colours, MARGIN + TITLE_HEIGHT + layout.size.height + MARGIN),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(text: str) -> str:
    # XML has no way to write control characters; names come from users.
    return escape("".join(character if character.isprintable() else " " for character in text))


def _shortened(name: str) -> str:
    return name if len(name) <= NAME_LENGTH_MAX else name[: NAME_LENGTH_MAX - 1] + "…"


def _box_size(chain: VertexPlan) -> Size:
    longest = max(len(_shortened(operator.name)) for operator in chain.chain)
    header = len(_header(chain)) + 4
    return Size(
        max(BOX_WIDTH_LEAST, max(longest, header) * CHARACTER_WIDTH + 2 * PADDING + 10),
        HEADER_HEIGHT + LINE_HEIGHT * len(chain.chain) + PADDING,
    )


def _header(chain: VertexPlan) -> str:
    return f"{chain.vertex_id}  {TIMES} {chain.parallelism}"


def _label_width(edge: ExchangePlan) -> float:
    return len(edge.partitioner) * CHARACTER_WIDTH + 14.0


def _box(chain: VertexPlan, layout: Layout, colour: Colour) -> str:
    box = layout.boxes[chain.vertex_id]
    x, y, width, height = box.corner.x, box.corner.y, box.size.width, box.size.height
    tip = (
        f"{chain.name}\nparallelism {chain.parallelism}, max {chain.max_parallelism}, "
        f"group {chain.sharing_group}"
        + (f"\nco-located by {chain.co_location_group}" if chain.co_location_group else "")
    )
    lines = []
    for index, operator in enumerate(chain.chain):
        base = y + HEADER_HEIGHT + LINE_HEIGHT * index + 19
        if index:
            lines.append(
                f'<line x1="{x + PADDING + 3:.1f}" x2="{x + PADDING + 3:.1f}" y1="{base - 22:.1f}" '
                f'y2="{base - 8:.1f}" stroke="{colour.stroke}" stroke-opacity=".45"/>'
            )
        lines.append(
            f'<circle cx="{x + PADDING + 3:.1f}" cy="{base - 4.5:.1f}" r="3" fill="{colour.stroke}"/>'
            f'<text class="operator" x="{x + PADDING + 14:.1f}" y="{base:.1f}" fill="{colour.text}">'
            f"{_text(_shortened(operator.name))}</text>"
        )
    return "\n".join(
        [
            "<g>",
            # isprintable() drops the line break between name and numbers; the tooltip keeps one line each.
            f"<title>{chr(10).join(_text(line) for line in tip.splitlines())}</title>",
            (
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="7" '
                f'fill="{colour.fill}" stroke="{colour.stroke}" stroke-width="1.4"/>'
            ),
            (
                f'<path d="M{x:.1f} {y + HEADER_HEIGHT - 4:.1f} v-{HEADER_HEIGHT - 11:.1f} q0 -7 7 -7 '
                f'h{width - 14:.1f} q7 0 7 7 v{HEADER_HEIGHT - 11:.1f} z" fill="{colour.stroke}"/>'
            ),
            (
                f'<text class="head" x="{x + PADDING:.1f}" y="{y + 18:.1f}" xml:space="preserve">'
                f"{_text(_header(chain))}</text>"
            ),
            *lines,
            "</g>",
        ]
    )


def _arrow(route: Route) -> str:
    start = route.points[0]
    path = [f"M{start.x:.1f} {start.y:.1f}"]
    for left, right in pairwise(route.points):
        middle = (left.x + right.x) / 2
        path.append(f"C{middle:.1f} {left.y:.1f} {middle:.1f} {right.y:.1f} {right.x:.1f} {right.y:.1f}")
    return f'<path class="arrow" d="{" ".join(path)}" marker-end="url(#tip)"/>'


def _label(edge: ExchangePlan, route: Route) -> str:
    place = _middle(route.points[-2], route.points[-1])
    width = _label_width(edge)
    tip = f"{edge.edge_id}: {counted(edge.channels, 'channel')}"
    return (
        f"<g><title>{_text(tip)}</title>"
        f'<rect x="{place.x - width / 2:.1f}" y="{place.y - 9:.1f}" width="{width:.1f}" height="18" rx="9" '
        'fill="#ffffff" stroke="#c9cdd8"/>'
        f'<text class="label" x="{place.x:.1f}" y="{place.y + 4:.1f}" text-anchor="middle">'
        f"{_text(edge.partitioner)}</text></g>"
    )


def _middle(left: Point, right: Point) -> Point:
    return Point((left.x + right.x) / 2, (left.y + right.y) / 2)


def _legend_texts(plan: PlanDescription) -> list[str]:
    texts = [f"slot sharing group {group.name}: {slots_text(group)}" for group in plan.sharing_groups]
    return texts + [
        f"co-location group {group.name}: {', '.join(group.vertices)}" for group in plan.co_location_groups
    ]


def _legend(plan: PlanDescription, colours: dict[str, Colour], top: float) -> str:
    groups = [group.name for group in plan.sharing_groups]
    rows = []
    for index, text in enumerate(_legend_texts(plan)):
        y = top + LEGEND_ROW_HEIGHT * index
        if index < len(groups):
            colour = colours[groups[index]]
            rows.append(
                f'<rect x="{MARGIN}" y="{y:.1f}" width="14" height="14" rx="3" fill="{colour.fill}" '
                f'stroke="{colour.stroke}"/>'
            )
        rows.append(f'<text class="sum" x="{MARGIN + LEGEND_INDENT}" y="{y + 11.5:.1f}">{_text(text)}</text>')
    return "\n".join(rows)
