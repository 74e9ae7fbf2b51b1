"""Types of this application's parameters and answers; parameter types validate by themselves, as those of engine.types do."""

import json
from datetime import datetime
from typing import Annotated, Any, ClassVar, Self

from FlaskSimpleAuth import ErrorResponse
from typing_extensions import TypedDict

from engine.types import Boolean, Integer, Login, Model, Password, RowKey, Sort, Text, of, refuse, text, within


class ObjectText(Text):
    """What an object is called."""


class StuffText(Text):
    """What a stuff is called."""


class StuffItems(str):
    """Stuff to create at once, 1 to 10,000 items of the form {"stuff": "..."}; kept as a JSON array of the texts."""

    most = 10_000
    openapi: ClassVar[dict[str, Any]] = {
        "type": "array",
        "minItems": 1,
        "maxItems": most,
        "items": {
            "type": "object",
            "properties": {"stuff": {"type": "string", "minLength": 1, "maxLength": Text.high, "pattern": Text.pattern}},
            "required": ["stuff"],
            "additionalProperties": False,
        },
    }

    def __new__(cls, value: Any) -> Self:
        if isinstance(value, str):  # from a form
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                refuse("must be a JSON array")
        if not isinstance(value, list):
            refuse("must be an array of objects")
        if not 1 <= len(value) <= cls.most:
            refuse(f"must have 1 to {cls.most} items")
        texts, faults = [], []
        for place, item in enumerate(value):
            try:
                if not isinstance(item, dict) or item.keys() != {"stuff"}:
                    refuse('must be an object with the one member "stuff"')
                texts.append(text(item["stuff"], StuffText.low, StuffText.high))
            except ErrorResponse as error:
                faults.append(f"[{place}] {error.message}")
        if faults:
            refuse("\n".join(faults))
        return super().__new__(cls, json.dumps(texts))


class StuffSort(Sort):
    """The order of a list of stuff."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"sid": ("number",), "stuff": ("text",)}


class UserSort(Sort):
    """The order of a list of users."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"id": ("number",), "login": ("text",)}


class OwnedSort(Sort):
    """The order of a list of objects: those of one text by their owners, those of one owner by their keys."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {
        "oid": ("number",),
        "object": ("number", "text"),
        "owner": ("number", "text"),
    }


class OwnSort(Sort):
    """The order of a list of one's objects."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"oid": ("number",), "object": ("text",)}


class UserIn(Model):
    """A user to create."""

    login: Annotated[str, of(Login)]
    password: Annotated[str, of(Password)]
    isAdmin: Annotated[bool, of(Boolean)] = False  # noqa: N815


# what comes out: documented here, made by the database


Sum = Annotated[int, within(2 * Integer.low, 2 * Integer.high)]


class Stuff(TypedDict):
    sid: RowKey
    stuff: str


class StuffKey(TypedDict):
    sid: RowKey


class StuffKeys(TypedDict):
    sids: list[RowKey]


class User(TypedDict):
    id: RowKey
    login: str
    isadmin: bool
    created: datetime


class Owned(TypedDict):
    oid: RowKey
    object: str
    owner: RowKey


class OwnedKey(TypedDict):
    oid: RowKey
