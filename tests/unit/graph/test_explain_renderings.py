"""Plans as text, Mermaid and SVG."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import combinations

import msgspec
from dataflows import Dataflow, job_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.graph.explain import PlanDescription, describe, render_mermaid, render_svg, render_text
from zmflow.graph.explain_layout import Size, lay_out
from zmflow.graph.partitioners import HashPartitioner
from zmflow.graph.transformations import Partitioned, Union
from zmflow.protocol.resources import ResourceProfile

SVG = "{http://www.w3.org/2000/svg}"


def branched(name: str = "Parse") -> PlanDescription:
    """A plan with a branch, an exchange that skips a layer and two sharing groups."""
    flow = Dataflow()
    source = flow.source("Numbers", uid="numbers")
    parsed = flow.map(source, name, sharing_group="parsers")
    summed = flow.map(Partitioned(parsed, HashPartitioner(hash)), "Sum", sharing_group="default")
    flow.sink(Union((summed, source)), "Print")
    return describe(job_graph(flow.graph()))


def test_text_tells_everything() -> None:
    """Totals, chains with operators and uids, exchanges with channels, slots of each group."""
    assert render_text(branched()) == (
        "job  (streaming)\n"
        "4 operators in 4 chains; 8 subtasks in 8 tasks; 4 slots needed\n"
        "\n"
        "v1  \N{MULTIPLICATION SIGN} 2  (max parallelism 128, group default)\n"
        "  ├─ Source: Numbers  uid numbers\n"
        "  ├─FORWARD─▶ v2  (2 channels)\n"
        "  └─FORWARD─▶ v4  (2 channels)\n"
        "\n"
        "v2  \N{MULTIPLICATION SIGN} 2  (max parallelism 128, group parsers)\n"
        "  ├─ Parse\n"
        "  └─HASH─▶ v3  (4 channels)\n"
        "\n"
        "v3  \N{MULTIPLICATION SIGN} 2  (max parallelism 128, group default)\n"
        "  ├─ Sum\n"
        "  └─FORWARD─▶ v4  (2 channels)\n"
        "\n"
        "v4  \N{MULTIPLICATION SIGN} 2  (max parallelism 128, group default)\n"
        "  └─ Sink: Print\n"
        "\n"
        "Slot sharing groups\n"
        "  default  2 slots: v1, v3, v4\n"
        "  parsers  2 slots: v2\n"
    )


def particular() -> PlanDescription:
    """A plan whose sharing group asks for resources, with two co-located chains."""
    flow = Dataflow()
    source = flow.source("Numbers", co_location_group="cache")
    model = flow.map(
        Partitioned(source, HashPartitioner(hash)),
        "Model",
        co_location_group="cache",
        managed_memory_weights={"OPERATOR": 3},
    )
    flow.sink(model, "Print", sharing_group="sinks")
    resources = {"default": ResourceProfile(1500, 512 * 2**20, external=(("gpu", 1),))}
    return describe(job_graph(flow.graph(sharing_resources=resources)))


def test_text_tells_what_slots_have_and_who_is_co_located() -> None:
    """Resources stand at their group, co-location at the chain and in a list of its own."""
    text = render_text(particular())
    assert "  (max parallelism 128, group default, co-located by cache)\n  ├─ Source: Numbers\n" in text
    assert text.endswith(
        "Slot sharing groups\n"
        "  default  2 slots of 1.5 cores, 512 MiB memory, 1 gpu: v1, v2\n"
        "  sinks    2 slots: v3\n"
        "\n"
        "Co-location groups\n"
        "  cache  v1, v2\n"
    )


def test_json_tells_what_slots_have_and_who_is_co_located() -> None:
    """Amounts are numbers; null is an equal share."""
    plan = msgspec.json.decode(msgspec.json.encode(particular()))
    assert [group["resources"] for group in plan["sharing_groups"]] == [
        {
            "text": "1.5 cores, 512 MiB memory, 1 gpu",
            "cpu_millis": 1500,
            "memory_bytes": 512 * 2**20,
            "managed_memory_bytes": None,
            "external": {"gpu": 1},
        },
        {
            "text": "an equal share",
            "cpu_millis": None,
            "memory_bytes": None,
            "managed_memory_bytes": None,
            "external": {},
        },
    ]
    assert plan["co_location_groups"] == [{"name": "cache", "vertices": ["v1", "v2"]}]
    assert [chain["co_location_group"] for chain in plan["chains"]] == ["cache", "cache", ""]
    assert [chain["managed_memory_weights"] for chain in plan["chains"]] == [{}, {"OPERATOR": 3}, {}]


def test_pictures_tell_what_slots_have_and_who_is_co_located() -> None:
    """In Mermaid at each chain, in SVG in the legend and in tooltips."""
    text = render_mermaid(particular())
    assert "Model<br/><i>slots of 1.5 cores, 512 MiB memory, 1 gpu</i><br/><i>co-located by cache</i>" in text
    assert text.count("<i>") == 4
    root = ElementTree.fromstring(render_svg(particular()))  # noqa: S314 - our own output
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert "slot sharing group default: 2 slots of 1.5 cores, 512 MiB memory, 1 gpu" in texts
    assert "co-location group cache: v1, v2" in texts
    assert sum("co-located by cache" in (each.text or "") for each in root.iter(f"{SVG}title")) == 2


def test_json_has_the_totals() -> None:
    """The description's JSON has the five numbers on its first level."""
    plan = msgspec.json.decode(msgspec.json.encode(branched()))
    assert {key: plan[key] for key in ("operators", "vertices", "subtasks", "tasks", "slots_required")} == {
        "operators": 4,
        "vertices": 4,
        "subtasks": 8,
        "tasks": 8,
        "slots_required": 4,
    }


def test_mermaid_draws_chains_and_exchanges() -> None:
    """A node per chain, an arrow per exchange, a class per sharing group; names are escaped."""
    text = render_mermaid(branched('a "b" <c> #'))
    assert text.startswith("flowchart LR\n")
    assert "a #quot;b#quot; #lt;c#gt; #35;" in text
    assert "    v2 -- HASH --> v3\n" in text
    assert "    class v2 group1\n" in text


def test_svg_draws_chains_and_exchanges() -> None:
    """The picture is XML with each operator, each partitioner and a legend row for each group."""
    root = ElementTree.fromstring(render_svg(branched("<&>")))  # noqa: S314 - our own output
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert {"Source: Numbers", "<&>", "Sum", "Sink: Print", "HASH", "FORWARD"} <= set(texts)
    assert "slot sharing group parsers: 2 slots" in texts
    assert len(root.findall(f".//{SVG}path[@class='arrow']")) == 4


@given(st.text(min_size=1, max_size=80))
def test_any_name_makes_a_well_formed_picture(name: str) -> None:
    """Names come from users: whatever they hold, the SVG parses and Mermaid lines stay lines."""
    plan = branched(name)
    ElementTree.fromstring(render_svg(plan))  # noqa: S314 - our own output
    assert len(render_mermaid(plan).split("\n")) == 14


@settings(deadline=None)  # a large plan takes its time on a busy machine
@given(st.data())
def test_boxes_never_overlap(data: st.DataObject) -> None:
    """Every box has its own place, inside the picture, and each arrow goes from left to right."""
    flow = Dataflow()
    flow.source("0")
    for index in range(1, data.draw(st.integers(1, 12))):
        inputs = data.draw(st.lists(st.sampled_from(flow.nodes), min_size=1, max_size=3))
        flow.map(Union(tuple(inputs)), str(index))
    flow.sink(flow.nodes[-1])
    plan = describe(job_graph(flow.graph(chaining=False)))
    sizes = {chain.vertex_id: Size(100.0 + 10 * len(chain.name), 40.0) for chain in plan.chains}
    layout = lay_out(plan, sizes, 60.0)
    for one, two in combinations(layout.boxes.values(), 2):
        assert (
            one.corner.x + one.size.width <= two.corner.x
            or two.corner.x + two.size.width <= one.corner.x
            or one.corner.y + one.size.height <= two.corner.y
            or two.corner.y + two.size.height <= one.corner.y
        )
    for box in layout.boxes.values():
        assert box.corner.x >= 0
        assert box.corner.y >= 0
        assert box.corner.x + box.size.width <= layout.size.width
        assert box.corner.y + box.size.height <= layout.size.height
    for route in layout.routes.values():
        assert all(left.x < right.x for left, right in zip(route.points, route.points[1:], strict=False))
