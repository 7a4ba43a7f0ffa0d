"""Declared types put to work: values made to fit them, and values printed in their form."""

from zmflow.api.typeinfo.coercion import Coercer, coercer_for
from zmflow.api.typeinfo.java_text import Renderer, render, renderer_for

__all__ = ["Coercer", "Renderer", "coercer_for", "render", "renderer_for"]
