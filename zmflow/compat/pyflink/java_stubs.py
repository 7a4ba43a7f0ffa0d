"""``pyflink.java_gateway`` and ``pyflink.util``: importable, and of use only where no JVM is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from zmflow.compat.pyflink.refusals import PyFlinkImportError

__all__ = [
    "DEFAULT_OUTPUT_TAG",
    "MAX_LONG_VALUE",
    "MIN_LONG_VALUE",
    "Deprecated",
    "Experimental",
    "Internal",
    "JavaException",
    "Public",
    "PublicEvolving",
    "TableException",
    "__version__",
    "add_jars_to_context_class_loader",
    "from_j_duration",
    "get_field",
    "get_field_value",
    "get_gateway",
    "get_j_env_configuration",
    "invoke_method",
    "is_instance_of",
    "is_launch_gateway_disabled",
    "load_java_class",
    "to_j_duration",
    "to_jarray",
]

F = TypeVar("F")

__version__ = "2.3.0"
"""The release of PyFlink whose names these are."""

MAX_LONG_VALUE = 2**63 - 1
"""The largest number of 64 bits."""

MIN_LONG_VALUE = -(2**63)
"""The least number of 64 bits."""

DEFAULT_OUTPUT_TAG = ""
"""The tag of the main output."""


class JavaException(Exception):  # noqa: N818 - PyFlink's name
    """An exception of a JVM. Never raised: there is none."""


class TableException(JavaException):
    """An exception of the Table API. Never raised: there is none."""


def is_launch_gateway_disabled() -> bool:
    """True: there is no gateway."""
    return True


def _refuse(*_: object, **__: object) -> NoReturn:
    raise PyFlinkImportError(
        "There is no JVM in zmflow, and so no gateway to one.",
        hint="Write in Python what the Java class does; connectors and formats are zmflow's own.",
    )


get_gateway: Callable[..., Any] = _refuse
to_jarray: Callable[..., Any] = _refuse
to_j_duration: Callable[..., Any] = _refuse
from_j_duration: Callable[..., Any] = _refuse
load_java_class: Callable[..., Any] = _refuse
is_instance_of: Callable[..., Any] = _refuse
get_j_env_configuration: Callable[..., Any] = _refuse
get_field: Callable[..., Any] = _refuse
get_field_value: Callable[..., Any] = _refuse
invoke_method: Callable[..., Any] = _refuse
add_jars_to_context_class_loader: Callable[..., Any] = _refuse


class _Marker:
    """A decorator that says how stable a thing is, with or without arguments, and leaves it as it is."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __call__(self, thing: F) -> F:
        return thing


Deprecated = Experimental = Internal = Public = PublicEvolving = _Marker
