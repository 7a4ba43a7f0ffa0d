"""What ``zmflow explain`` is made of: the description of a JobGraph and its renderings."""

from __future__ import annotations

from zmflow.graph.explain_mermaid import render_mermaid
from zmflow.graph.explain_svg import render_svg
from zmflow.graph.explain_text import render_text
from zmflow.graph.plan import PlanDescription, describe

__all__ = ["PlanDescription", "describe", "render_mermaid", "render_svg", "render_text"]
