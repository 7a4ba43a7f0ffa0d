"""``Types``: declarations of what records are, as PyFlink's programs write them.

Declaring types is optional: records whose type nobody declared travel and print as the Python objects they
are. A declared type is honoured as PyFlink honours it: ``zmflow.api.typeinfo`` makes values fit it (integers
as wide as Java's, FLOAT of 32 bits, tuples that become named rows) and prints them in Java's form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zmflow.errors import JobGraphError

__all__ = ["TypeInformation", "Types"]


@dataclass(frozen=True, slots=True)
class TypeInformation:
    """One declared type: its kind, the types inside it, and the names of its fields.

    >>> Types.ROW_NAMED(["word", "count"], [Types.STRING(), Types.INT()])
    ROW(word STRING, count INT)
    """

    kind: str
    inner: tuple[TypeInformation, ...] = ()
    field_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        if not self.inner:
            return self.kind
        if self.field_names:
            fields = [f"{name} {type_}" for name, type_ in zip(self.field_names, self.inner, strict=True)]
        else:
            fields = [str(type_) for type_ in self.inner]
        return f"{self.kind}({', '.join(fields)})"

    def __call__(self) -> TypeInformation:
        return self

    def get_field_names(self) -> list[str]:
        """The names of a row's fields; ``f0``, ``f1`` and so on where it has none, as in Flink."""
        return list(self.field_names) or [f"f{position}" for position in range(len(self.inner))]

    def get_field_types(self) -> list[TypeInformation]:
        """The types of the fields of a row or a tuple."""
        return list(self.inner)

    def get_field_index(self, field_name: str) -> int:
        """The position of a row's field; -1 where it has none of this name, as in Flink."""
        names = self.get_field_names()
        return names.index(field_name) if field_name in names else -1


class Types:
    """Factories of type declarations: ``Types.STRING()``, ``Types.TUPLE([Types.STRING(), Types.INT()])``."""

    STRING = TypeInformation("STRING")
    BYTE = TypeInformation("BYTE")
    BOOLEAN = TypeInformation("BOOLEAN")
    SHORT = TypeInformation("SHORT")
    INT = TypeInformation("INT")
    LONG = TypeInformation("LONG")
    FLOAT = TypeInformation("FLOAT")
    DOUBLE = TypeInformation("DOUBLE")
    CHAR = TypeInformation("CHAR")
    BIG_INT = TypeInformation("BIG_INT")
    BIG_DEC = TypeInformation("BIG_DEC")
    INSTANT = TypeInformation("INSTANT")
    SQL_DATE = TypeInformation("SQL_DATE")
    SQL_TIME = TypeInformation("SQL_TIME")
    SQL_TIMESTAMP = TypeInformation("SQL_TIMESTAMP")
    PICKLED_BYTE_ARRAY = TypeInformation("PICKLED_BYTE_ARRAY")

    @staticmethod
    def ROW(field_types: Sequence[TypeInformation]) -> TypeInformation:  # noqa: N802
        """A row without field names."""
        return TypeInformation("ROW", tuple(field_types))

    @staticmethod
    def ROW_NAMED(  # noqa: N802
        field_names: Sequence[str], field_types: Sequence[TypeInformation]
    ) -> TypeInformation:
        """A row with field names.

        Raises:
            JobGraphError: not one name for each type.
        """
        if len(field_names) != len(field_types):
            raise JobGraphError(
                f"A row type has {len(field_names)} field names and {len(field_types)} field types.",
                hint="Give one name for each type.",
            )
        return TypeInformation("ROW", tuple(field_types), tuple(field_names))

    @staticmethod
    def TUPLE(field_types: Sequence[TypeInformation]) -> TypeInformation:  # noqa: N802
        """A tuple."""
        return TypeInformation("TUPLE", tuple(field_types))

    @staticmethod
    def PRIMITIVE_ARRAY(element_type: TypeInformation) -> TypeInformation:  # noqa: N802
        """An array of numbers or booleans."""
        return TypeInformation("PRIMITIVE_ARRAY", (element_type,))

    @staticmethod
    def BASIC_ARRAY(element_type: TypeInformation) -> TypeInformation:  # noqa: N802
        """An array of a basic type."""
        return TypeInformation("BASIC_ARRAY", (element_type,))

    @staticmethod
    def OBJECT_ARRAY(element_type: TypeInformation) -> TypeInformation:  # noqa: N802
        """An array of objects."""
        return TypeInformation("OBJECT_ARRAY", (element_type,))

    @staticmethod
    def MAP(key_type_info: TypeInformation, value_type_info: TypeInformation) -> TypeInformation:  # noqa: N802
        """A mapping."""
        return TypeInformation("MAP", (key_type_info, value_type_info))

    @staticmethod
    def LIST(element_type_info: TypeInformation) -> TypeInformation:  # noqa: N802
        """A list."""
        return TypeInformation("LIST", (element_type_info,))
