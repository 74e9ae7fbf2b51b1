"""Input types that validate by themselves, and the pydantic models. They refuse in their own words and never echo a value."""

import base64
import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, NoReturn, Self

from FlaskSimpleAuth import ErrorResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

MAX_INT = 2**31 - 1  # PostgreSQL's INT
# NOTE a lone surrogate is a str that UTF-8 cannot say, NUL a character that PostgreSQL cannot hold,
# U+10FFFF, no character either, is the upper end of the lists that are sorted by a text
_UNFIT = re.compile("[\0\ud800-\udfff\U0010ffff]")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")


def refuse(message: str, status: int = 400) -> NoReturn:
    """Refuse the value at hand; for a parameter the message follows its name."""
    raise ErrorResponse(message, status)


def integer(value: Any, low: int, high: int) -> int:
    """A decimal integer of JSON or text, within bounds; no 0x10, no 1_000, no true, no 1.0."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if type(value) is not int:
        refuse("must be an integer")
    if not low <= value <= high:
        refuse(f"must be between {low} and {high}")
    return value


def text(value: Any, low: int, high: int) -> str:
    """A text with a length within bounds (in characters) that both UTF-8 and PostgreSQL can hold."""
    if not isinstance(value, str):
        refuse("must be a text")
    if not low <= len(value) <= high:
        refuse(f"must have {low} to {high} characters" if value else "must not be empty")
    if _UNFIT.search(value):
        refuse("contains a character that is not allowed (NUL, a lone surrogate or U+10FFFF)")
    return value


class Key(int):
    """A row's key in a path: what is no key of any row is not found."""

    def __new__(cls, value: Any) -> Self:
        if not (isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,9}", value) and int(value) <= MAX_INT):
            refuse("object not found", 404)
        return super().__new__(cls, value)


class Integer(int):
    """A parameter that PostgreSQL's INT can hold."""

    low, high = -MAX_INT - 1, MAX_INT

    def __new__(cls, value: Any) -> Self:
        return super().__new__(cls, integer(value, cls.low, cls.high))


class Limit(Integer):
    """How many rows a page may have."""

    low, high = 1, 1000


class Text(str):
    """A text parameter; subclasses state their length, in characters."""

    low, high = 1, 512  # 512 characters of UTF-8 fit in an index entry (2,704 bytes)

    def __new__(cls, value: Any) -> Self:
        return super().__new__(cls, text(value, cls.low, cls.high))


class Boolean:
    """A boolean of JSON, or the text true or false."""

    def __new__(cls, value: Any) -> bool:  # type: ignore[misc]
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        return value if isinstance(value, bool) else refuse("must be true or false")


class Time(str):
    """A point in time, RFC 3339 with an offset."""

    def __new__(cls, value: Any) -> Self:
        try:
            if datetime.fromisoformat(value).tzinfo is None:
                refuse("must have an offset from UTC")
        except (TypeError, ValueError):
            refuse("must be a time such as 2026-01-31T12:00:00Z")
        return super().__new__(cls, value)


class Login(Text):
    """A login; a colon would part it in two in Basic authentication and in tokens."""

    high = 64

    def __new__(cls, value: Any) -> Self:
        self = super().__new__(cls, value)
        if re.search(r"[:\s\x00-\x1f\x7f]", self):
            refuse("must not contain blanks, colons or control characters")
        return self


class Password(Text):
    """A password, in clear; whether it is fit is for auth to say."""


class Name(Text):
    """A name of the schema: PostgreSQL keeps 63 bytes of one."""

    high = 63

    def __new__(cls, value: Any) -> Self:
        return super().__new__(cls, text(value, cls.low, cls.high).lower())


class ObjectText(Text):
    """What an object is called."""


class StuffText(Text):
    """What a stuff is called."""


class StuffItems(str):
    """Stuff to create at once, 1 to 10,000 items of the form {"stuff": "..."}; kept as a JSON array of the texts."""

    most = 10_000

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


class Pattern(Text):
    """A SQL LIKE pattern: % any text, _ any character, \\ takes the next one as it is."""

    low = 0

    def __new__(cls, value: Any) -> Self:
        self = super().__new__(cls, value)
        if (len(self) - len(self.rstrip("\\"))) % 2:
            refuse("must not end with the escape character \\")
        return self


class StuffSort(str):
    """The orders in which stuff may be listed."""

    choices = ("sid", "-sid", "stuff", "-stuff")

    def __new__(cls, value: Any) -> Self:
        if value not in cls.choices:
            refuse("must be one of " + " ".join(cls.choices))
        return super().__new__(cls, value)


class Cursor(str):
    """Where a page begins: the last key of the one before, opaque to clients.

    Once read, `number` or `text` is that key and `sort` the order it belongs to; all None for the first page.
    """

    sort: str | None = None
    number: int | None = None
    text: str | None = None

    def __new__(cls, value: Any = "") -> Self:
        self = super().__new__(cls, value if isinstance(value, str) else refuse("must be a cursor"))
        if value:
            try:
                raw = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
                self.sort, key = json.loads(raw)
            except (ValueError, TypeError, RecursionError):
                refuse("is not a cursor of this list")
            if type(key) is int and 0 <= key <= MAX_INT:
                self.number = key
            elif isinstance(key, str) and len(key) <= Text.high and not _UNFIT.search(key):
                self.text = key
            else:
                refuse("is not a cursor of this list")
        return self

    def of(self, sort: str) -> Self:
        """Check that this cursor belongs to a list in that order."""
        if self and (self.sort != sort or (self.text if sort.lstrip("-") in ("stuff",) else self.number) is None):
            refuse('error on parameter "after": is not a cursor of this list')
        return self


class Model(BaseModel):
    """A structure of typed members; whatever is wrong with it is refused at once, member by member."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def __init__(self, **members: Any) -> None:
        try:
            super().__init__(**members)
        except ValidationError as error:
            words = {"missing": "is missing", "extra_forbidden": "is unexpected"}
            faults = error.errors(include_url=False, include_input=False)
            lines = [
                "."
                + ".".join(str(part) for part in fault["loc"])
                + " "
                + (words.get(fault["type"]) or str(fault.get("ctx", {}).get("error", "is ill-typed")))
                for fault in faults
            ]
            refuse("\n".join(lines))


def of(kind: Callable[[Any], Any]) -> BeforeValidator:
    """A parameter type as the validator of a member."""

    def validate(value: Any) -> Any:
        try:
            return kind(value)
        except ErrorResponse as error:
            raise ValueError(error.message) from error

    return BeforeValidator(validate)


class UserIn(Model):
    """A user to create."""

    login: Annotated[str, of(Login)]
    password: Annotated[str, of(Password)]
    isAdmin: Annotated[bool, of(Boolean)] = False  # noqa: N815
