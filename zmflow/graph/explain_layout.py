"""Where the boxes and arrows of a picture go: layers from left to right, few crossings.

A vertex stands one layer behind the last of its inputs. An exchange that skips layers is led through an
invisible waypoint in each of them, so that it goes around boxes and not under them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from zmflow.graph.plan import PlanDescription

__all__ = ["Box", "Layout", "Point", "Route", "Size", "lay_out"]

ROW_GAP = 28.0
LAYER_GAP_LEAST = 72.0
SWEEPS = 4  # orderings settle after two or three in plans of ordinary size


@dataclass(frozen=True, slots=True)
class Point:
    """A place, in pixels from the upper left corner."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels."""

    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Box:
    """Where a vertex stands."""

    corner: Point
    size: Size


@dataclass(frozen=True, slots=True)
class Route:
    """The way of an exchange: from a box's right side, through waypoints, to another's left side."""

    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Boxes by vertex id, routes by edge id, and the size of the whole."""

    boxes: dict[str, Box]
    routes: dict[str, Route]
    size: Size


def lay_out(plan: PlanDescription, sizes: Mapping[str, Size], label_width: float) -> Layout:
    """Place every vertex and route every exchange.

    Args:
        plan: vertices in topological order.
        sizes: the size of each vertex's box.
        label_width: room that the widest arrow label needs between two layers.
    """
    layer_of: dict[str, int] = {}
    for chain in plan.chains:
        before = [layer_of[edge.source] for edge in plan.exchanges if edge.target == chain.vertex_id]
        layer_of[chain.vertex_id] = max(before, default=-1) + 1
    layers: list[list[str]] = [[] for _ in range(max(layer_of.values(), default=-1) + 1)]
    for vertex, layer in layer_of.items():
        layers[layer].append(vertex)
    paths: dict[str, list[str]] = {}
    for edge in plan.exchanges:
        between = range(layer_of[edge.source] + 1, layer_of[edge.target])
        waypoints = [f"{edge.edge_id}@{layer}" for layer in between]
        for layer, waypoint in zip(between, waypoints, strict=True):
            layers[layer].append(waypoint)
        paths[edge.edge_id] = [edge.source, *waypoints, edge.target]
    _order(layers, list(paths.values()))
    boxes = _place(layers, {**_waypoint_sizes(layers, sizes), **sizes}, max(LAYER_GAP_LEAST, label_width))
    right = max((box.corner.x + box.size.width for box in boxes.values()), default=0.0)
    bottom = max((box.corner.y + box.size.height for box in boxes.values()), default=0.0)
    return Layout(
        boxes={vertex: boxes[vertex] for vertex in layer_of},
        routes=_routes(paths, boxes),
        size=Size(right, bottom),
    )


def _waypoint_sizes(layers: Sequence[Sequence[str]], sizes: Mapping[str, Size]) -> dict[str, Size]:
    return {key: Size(0.0, 12.0) for layer in layers for key in layer if key not in sizes}


def _order(layers: list[list[str]], paths: Sequence[Sequence[str]]) -> None:
    """Sort each layer by where its neighbours in the layer before (then: behind) stand."""
    before: dict[str, list[str]] = {}
    behind: dict[str, list[str]] = {}
    for path in paths:
        for left, right in pairwise(path):
            before.setdefault(right, []).append(left)
            behind.setdefault(left, []).append(right)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        neighbours = before if forward else behind
        for layer in layers if forward else layers[::-1]:
            position = {key: (index + 0.5) / len(each) for each in layers for index, key in enumerate(each)}
            centre = {
                key: sum(position[near] for near in neighbours[key]) / len(neighbours[key])
                if neighbours.get(key)
                else position[key]
                for key in layer
            }
            layer.sort(key=centre.__getitem__)


def _place(layers: Sequence[Sequence[str]], sizes: Mapping[str, Size], gap: float) -> dict[str, Box]:
    heights = [sum(sizes[key].height for key in layer) + ROW_GAP * (len(layer) - 1) for layer in layers]
    tallest = max(heights, default=0.0)
    boxes = {}
    x = 0.0
    for layer, height in zip(layers, heights, strict=True):
        width = max(sizes[key].width for key in layer)
        y = (tallest - height) / 2
        for key in layer:
            size = sizes[key] if sizes[key].width == 0 else Size(width, sizes[key].height)
            boxes[key] = Box(Point(x, y), size)
            y += size.height + ROW_GAP
        x += width + gap
    return boxes


def _routes(paths: Mapping[str, Sequence[str]], boxes: Mapping[str, Box]) -> dict[str, Route]:
    leaving: dict[str, list[str]] = {}
    arriving: dict[str, list[str]] = {}
    # Arrows of one box leave and arrive in the order of their other ends, so that they do not cross.
    for edge_id in sorted(paths, key=lambda each: (boxes[paths[each][1]].corner.y, each)):
        leaving.setdefault(paths[edge_id][0], []).append(edge_id)
    for edge_id in sorted(paths, key=lambda each: (boxes[paths[each][-2]].corner.y, each)):
        arriving.setdefault(paths[edge_id][-1], []).append(edge_id)
    routes = {}
    for edge_id, path in paths.items():
        start, end = boxes[path[0]], boxes[path[-1]]
        first = Point(start.corner.x + start.size.width, _port(start, leaving[path[0]], edge_id))
        last = Point(end.corner.x, _port(end, arriving[path[-1]], edge_id))
        middle = [Point(boxes[key].corner.x, boxes[key].corner.y + 6.0) for key in path[1:-1]]
        routes[edge_id] = Route((first, *middle, last))
    return routes


def _port(box: Box, edges: Sequence[str], edge_id: str) -> float:
    return box.corner.y + box.size.height * (edges.index(edge_id) + 1) / (len(edges) + 1)
