"""JSON schemas of the types of parameters and answers, and the components that name them. Imported by openapi.

A parameter type that states its bounds is described by them (`engine.types.schema`). pydantic describes built-in types,
collections and structures. Any other class is taken to be made from a text, as FlaskSimpleAuth's casts do.
"""

import enum
import json
from typing import Any, Literal

from FlaskSimpleAuth import FileStorage, JsonData
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import to_jsonable_python

from engine.types import schema, states

Object = dict[str, Any]
REF = "#/components/schemas/{model}"
SCALARS = {"string", "integer", "number", "boolean"}


class Schemas:
    """The named schemas of a document."""

    def __init__(self) -> None:
        self.named: dict[str, Object] = {}

    def name(self, name: str, found: Object) -> Object:
        """Add a schema under a name, numbered if another schema has it already.

        :returns: a reference to it.
        """
        number, free = 1, name
        while self.named.get(free, found) != found:
            number += 1
            free = f"{name}{number}"
        self.named[free] = found
        return {"$ref": REF.format(model=free)}

    def of(self, kind: Any, mode: Literal["validation", "serialization"] = "validation") -> Object:
        """The schema of a type, or a reference to it if it is a structure or an enumeration.

        :param kind: a class or a type expression.
        :param mode: `validation` for what comes in, which takes no unknown members; `serialization` for what goes out.
        """
        if kind is FileStorage:
            return {"type": "string", "format": "binary"}
        if kind is JsonData:
            return {"description": "Any JSON value"}
        if states(kind):
            return schema(kind)
        if isinstance(kind, type) and issubclass(kind, int | str) and not issubclass(kind, bool | enum.Enum):
            return {"type": "integer" if issubclass(kind, int) else "string"}
        try:
            found = TypeAdapter(kind).json_schema(ref_template=REF, mode=mode)
        except PydanticSchemaGenerationError:
            return {"type": "string"}
        parts = found.pop("$defs", {})
        if mode == "validation":
            for one in (found, *parts.values()):
                if "properties" in one:
                    one.setdefault("additionalProperties", False)
        for name, part in parts.items():
            given = self.name(name, part)["$ref"]
            if given != REF.format(model=name):  # another class has this name: its references follow
                found = json.loads(json.dumps(found).replace(f'"{REF.format(model=name)}"', f'"{given}"'))
        return self.name(kind.__name__, found) if isinstance(kind, type) and "title" in found else found

    def is_scalar(self, found: Object) -> bool:
        """Whether a value of this schema can be said by the text of one field of a form."""
        name = found.get("$ref", "").rpartition("/")[2]
        kind = self.named.get(name, found).get("type")
        return isinstance(kind, str) and kind in SCALARS


def nullable(found: Object) -> Object:
    """The schema of the same values, or null."""
    if isinstance(found.get("type"), str) and "enum" not in found:
        return found | {"type": [found["type"], "null"]}
    return {"anyOf": [found, {"type": "null"}]}


def jsonable(value: Any) -> Any:
    """A default value as JSON has it."""
    return to_jsonable_python(value, fallback=str)
