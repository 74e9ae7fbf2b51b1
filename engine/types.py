"""Input types that validate by themselves, and the pydantic models. They refuse in their own words and never echo a value."""

import base64
import inspect
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, ClassVar, NoReturn, Self

from FlaskSimpleAuth import ErrorResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, WithJsonSchema
from typing_extensions import NotRequired, TypedDict  # noqa: UP035 pydantic reads none of typing before 3.12

MAX_INT = 2**31 - 1  # PostgreSQL's INT
MAX_SAFE = 2**53 - 1  # the largest integer that every JSON reader keeps (RFC 8259 6)
# NOTE a lone surrogate is a str that UTF-8 cannot say, NUL a character that PostgreSQL cannot hold
UNFIT = re.compile("[\0\ud800-\udfff]")
_KEY = re.compile("[1-9][0-9]{0,15}")
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
    if UNFIT.search(value):
        refuse("contains a character that is not allowed (NUL or a lone surrogate)")
    return value


def bounds(low: int, high: int) -> dict[str, Any]:
    """The JSON schema of an integer within bounds; its format is that of the smallest type that holds it."""
    return {"type": "integer", "format": "int32" if high <= MAX_INT else "int64", "minimum": low, "maximum": high}


def within(low: int, high: int) -> WithJsonSchema:
    """The bounds of an integer of an answer, for Annotated."""
    return WithJsonSchema(bounds(low, high))


RowKey = Annotated[int, within(1, MAX_INT)]  # of an INT column, in an answer
BigKey = Annotated[int, within(1, MAX_SAFE)]  # of a BIGINT column


def states(kind: Any) -> bool:
    """Whether a parameter type states its own schema or bounds."""
    if not isinstance(kind, type) or not issubclass(kind, int | str):
        return hasattr(kind, "openapi")
    return any(hasattr(kind, name) for name in ("openapi", "low", "choices", "pattern"))


def schema(kind: Any) -> dict[str, Any]:
    """A parameter type as a JSON schema: what it states of itself."""
    if hasattr(kind, "openapi"):
        return dict(kind.openapi)
    said = {"description": inspect.cleandoc(kind.__doc__)} if kind.__dict__.get("__doc__") and kind is not str else {}
    if issubclass(kind, int):
        return bounds(kind.low, kind.high) | said
    facets = {"minLength": "low", "maxLength": "high", "enum": "choices", "x-enum-varnames": "names", "pattern": "pattern"}
    return {"type": "string"} | said | {facet: getattr(kind, name) for facet, name in facets.items() if hasattr(kind, name)}


class Key(int):
    """A row's key in a path: what is no key of any row is not found."""

    low, high = 1, MAX_INT

    def __new__(cls, value: Any) -> Self:
        if not (isinstance(value, str) and _KEY.fullmatch(value) and int(value) <= cls.high):
            refuse("object not found", 404)
        return super().__new__(cls, value)


class LongKey(Key):
    """The same of a BIGINT column."""

    high = MAX_SAFE


class Integer(int):
    """A parameter that PostgreSQL's INT can hold."""

    low, high = -MAX_INT - 1, MAX_INT

    def __new__(cls, value: Any) -> Self:
        return super().__new__(cls, integer(value, cls.low, cls.high))


class Limit(Integer):
    """How many rows a page may have."""

    low, high = 1, 1000


class Wait(Integer):
    """How many seconds an answer may wait until there is something to tell."""

    low, high = 1, 30


class Text(str):
    """A text parameter; subclasses state their length, in characters."""

    low, high = 1, 512  # 512 characters of UTF-8 fit in an index entry (2,704 bytes)
    # NOTE in ASCII, by escapes that the regular expressions of all languages know: it stands in the OpenAPI document
    pattern = r"^[^\x00]*$"

    def __new__(cls, value: Any) -> Self:
        return super().__new__(cls, text(value, cls.low, cls.high))


class Boolean:
    """A boolean of JSON, or the text true or false."""

    openapi: ClassVar[dict[str, Any]] = {"type": "boolean"}

    def __new__(cls, value: Any) -> bool:  # type: ignore[misc]
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        return value if isinstance(value, bool) else refuse("must be true or false")


class Time(str):
    """A point in time, RFC 3339 with an offset."""

    openapi: ClassVar[dict[str, Any]] = {"type": "string", "format": "date-time", "description": __doc__}

    def __new__(cls, value: Any) -> Self:
        try:
            time = datetime.fromisoformat(value)
            if time.tzinfo is None:
                refuse("must have an offset from UTC")
            return super().__new__(cls, time.astimezone(UTC).isoformat())  # PostgreSQL takes no offset above 15:59:59
        except (TypeError, ValueError, OverflowError):
            refuse("must be a time such as 2026-01-31T12:00:00Z")


class Login(Text):
    """A login; a colon would part it in two in Basic authentication and in tokens."""

    high = 64
    pattern = r"^[^:\s\x00-\x1f\x7f-\x9f]+$"

    def __new__(cls, value: Any) -> Self:
        self = super().__new__(cls, value)
        if re.search(r"[:\s\x00-\x1f\x7f-\x9f]", self):
            refuse("must not contain blanks, colons or control characters")
        return self


class Password(Text):
    """A password, in clear: 72 bytes of UTF-8 at most; further rules are the server's to say."""

    openapi: ClassVar[dict[str, Any]] = {
        "type": "string",
        "format": "password",
        "description": __doc__,
        "minLength": Text.low,
        "maxLength": 72,
        "pattern": Text.pattern,
    }


class Secret(Text):
    """A password as it was once set, whatever is asked of new ones."""

    openapi: ClassVar[dict[str, Any]] = {
        "type": "string",
        "format": "password",
        "description": __doc__,
        "minLength": Text.low,
        "maxLength": Text.high,
        "pattern": Text.pattern,
    }


class Otp(Text):
    """The six digits of a second factor, or a recovery text."""

    low, high = 6, 32


class Days(Integer):
    """How many days; 30.0 is an integer of JSON Schema as well."""

    low, high = 1, 365

    def __new__(cls, value: Any) -> Self:
        return super().__new__(cls, int(value) if isinstance(value, float) and value.is_integer() else value)


class Scopes(str):
    """What a key is for, `noun:read`, `noun:write` or `*`: an array, or a text of them parted by blanks."""

    most = 50
    one = r"^(\*|[a-z][a-z0-9-]{0,62}:(read|write))$"
    openapi: ClassVar[dict[str, Any]] = {
        "type": "array",
        "minItems": 1,
        "maxItems": most,
        "items": {"type": "string", "format": "scope"},
        "description": __doc__,
    }

    def __new__(cls, value: Any) -> Self:
        found = value.split(" ") if isinstance(value, str) else value
        if not isinstance(found, list) or not 1 <= len(found) <= cls.most:
            refuse(f"must have 1 to {cls.most} scopes")
        if not all(isinstance(scope, str) and re.fullmatch(cls.one, scope) for scope in found):
            refuse("must be scopes such as owned:read, owned:write or *")
        return super().__new__(cls, " ".join(sorted(set(found))))


class Name(Text):
    """A name of the schema: PostgreSQL keeps 63 bytes of one."""

    high = 63

    def __new__(cls, value: Any) -> Self:
        return super().__new__(cls, text(value, cls.low, cls.high).lower())


class Pattern(Text):
    """A SQL LIKE pattern: % any text, _ any character, \\ takes the next one as it is."""

    low = 0
    pattern = r"^([^\\\x00]|\\[^\x00])*$"

    def __new__(cls, value: Any) -> Self:
        self = super().__new__(cls, value)
        if (len(self) - len(self.rstrip("\\"))) % 2:
            refuse("must not end with the escape character \\")
        return self


class Sort(str):
    """The order of a list: a column, descending behind a `-`."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {}  # and what a cursor holds of each: "number", "text" or both
    choices: ClassVar[tuple[str, ...]]
    names: ClassVar[tuple[str, ...]]  # of the choices, in generated clients

    def __init_subclass__(cls) -> None:
        cls.choices = tuple(sign + column for column in cls.columns for sign in ("", "-"))
        cls.names = tuple(column.upper() + suffix for column in cls.columns for suffix in ("", "_DESCENDING"))

    def __new__(cls, value: Any) -> Self:
        if value not in cls.choices:
            refuse("must be one of " + " ".join(cls.choices))
        return super().__new__(cls, value)

    @property
    def holds(self) -> tuple[str, ...]:
        """What a cursor of this order holds."""
        return self.columns[self.lstrip("-")]


class Cursor(str):
    """Where a page begins: what a Link gave."""

    # once read, where the page before ends in the order it belongs to; all None for the first page
    openapi: ClassVar[dict[str, Any]] = {"type": "string", "format": "cursor", "description": __doc__}
    sort: str | None = None
    number: int | None = None
    text: str | None = None

    def __new__(cls, value: Any = "") -> Self:
        self = super().__new__(cls, value if isinstance(value, str) else refuse("must be a cursor"))
        if value:
            try:
                raw = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
                self.sort, *keys = json.loads(raw)
            except (ValueError, TypeError, RecursionError):
                refuse("is not a cursor of this list")
            for key in keys:
                if type(key) is int and 0 <= key < 2**63 and self.number is None:  # a BIGINT, which the audit trail has
                    self.number = key
                elif isinstance(key, str) and len(key) <= Text.high and not UNFIT.search(key) and self.text is None:
                    self.text = key
                else:
                    refuse("is not a cursor of this list")
        return self

    @property
    def key(self) -> int | str | None:
        return self.number if self.text is None else self.text

    def of(self, sort: str) -> Self:
        """Check that this cursor belongs to a list in that order."""
        held = tuple(name for name in ("number", "text") if getattr(self, name) is not None)
        if self and (self.sort != sort or held != (sort.holds if isinstance(sort, Sort) else ("number",))):
            refuse('error on parameter "after": is not a cursor of this list')
        return self


class TrailSort(str):
    """The orders in which the trail may be listed."""

    choices = ("aid", "-aid")

    def __new__(cls, value: Any) -> Self:
        if value not in cls.choices:
            refuse("must be one of " + " ".join(cls.choices))
        return super().__new__(cls, value)


class Place(str):
    """A place in the trail: what a Link gave. It names the cluster that numbered the transaction."""

    openapi: ClassVar[dict[str, Any]] = {"type": "string", "format": "cursor", "description": __doc__}
    sort: str | None = None
    parts: ClassVar[dict[str, int | None]] = {"system": None, "xid": None, "aid": None}

    def __new__(cls, value: Any = "") -> Self:
        self = super().__new__(cls, value if isinstance(value, str) else refuse("must be a cursor"))
        if value:
            try:
                raw = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
                self.sort, system, *numbers = json.loads(raw)
                numbers = [integer(number, 0, 2**63 - 1) for number in (system, *numbers)]
                self.parts = dict(zip(cls.parts, numbers, strict=True))  # type: ignore[misc]
            except (ValueError, TypeError, RecursionError, ErrorResponse):
                refuse("is not a cursor of this list")
        return self

    def of(self, sort: str) -> Self:
        """Check that this place belongs to a list in that order."""
        if self and self.sort != sort:
            refuse('error on parameter "after": is not a cursor of this list')
        return self

    @classmethod
    def read(cls, row: dict[str, Any]) -> dict[str, int]:
        """The parts of the place at which a query says to go on."""
        return dict(zip(cls.parts, json.loads(row["next"])[1:], strict=True))

    def checked(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row of a query that says whether this place is `known`.

        :raises ErrorResponse: 410, it is not.
        """
        return row if row["known"] else refuse("the place of this cursor is no more, begin again without `after`", 410)


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


class Member(BeforeValidator):
    """A parameter type as the validator, and the schema, of a member."""

    def __get_pydantic_json_schema__(self, *_: Any) -> dict[str, Any]:
        return schema(self.func.args[0])  # type: ignore[union-attr]


def of(kind: Callable[[Any], Any]) -> Member:
    """A member of that type."""
    return Member(partial(_made, kind))


def _made(kind: Callable[[Any], Any], value: Any) -> Any:
    try:
        return kind(value)
    except ErrorResponse as error:
        raise ValueError(error.message) from error


# what comes out: documented here, made by the database


class Change(TypedDict):
    """A line of the trail: who did what to which row, when, from where, before and after."""

    aid: BigKey
    at: datetime
    login: str | None
    role: str
    request: str | None
    address: str | None
    event: str
    table: str | None
    key: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Root(TypedDict):
    name: str
    version: str
    links: dict[str, str]


class RowChange(TypedDict):
    """A change of a row: when, which, INSERT UPDATE DELETE or TRUNCATE, and by whom."""

    at: datetime
    table: str
    key: str | None
    event: str
    login: str | None


class Version(TypedDict):
    app: str
    version: str
    schema: RowKey
    now: datetime
    user: str | None
    id: RowKey | None
    groups: list[str]


class Live(TypedDict):
    live: bool


class Ready(TypedDict):
    ready: bool
    schema: RowKey


class LogIn(TypedDict):
    """A session just begun or renewed: its token, when that expires, and what renews it once, if it can be renewed."""

    token: str
    expires: datetime
    refresh: str | None


class Session(TypedDict):
    """A log-in: when it was made, last seen (to the minute) and ends, from where, by which program, and if it is this one."""

    sid: BigKey
    made: datetime
    seen: datetime
    until: datetime
    address: str
    agent: str
    current: bool


class NewKey(TypedDict):
    """A key, told this once."""

    kid: RowKey
    key: str


class ApiKey(TypedDict):
    """A key of a program, without the key: what it is for, until when, and when it was last used, to the minute."""

    kid: RowKey
    note: str
    scopes: list[str]
    made: datetime
    until: datetime
    used: datetime | None


class TotpSecret(TypedDict):
    """The secret of a second factor, in base 32, and as applications read it."""

    secret: str
    uri: str


class Recoveries(TypedDict):
    """What stands in for the digits, each once; told this once."""

    recovery: list[str]


class Fault(TypedDict):
    """What is wrong with one parameter, or one place of it."""

    field: str
    message: str


class Problem(TypedDict):
    """Every error; the last four come with problem details (RFC 9457), on request."""

    error: str
    status: Annotated[int, within(400, 599)]
    code: str
    request_id: str | None
    errors: NotRequired[list[Fault]]
    type: NotRequired[str]
    title: NotRequired[str]
    detail: NotRequired[str]
    instance: NotRequired[str]
