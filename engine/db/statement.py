"""Named statements: their text with numbered parameters, and the parameters in PostgreSQL's text format."""

import re
from collections.abc import Sequence
from typing import Any

from aiosql.utils import VAR_REF
from psycopg.adapt import Loader

from engine.problem import Problem


class Json(bytes):
    """A JSON text made by the database, sent as it is."""


class JsonLoader(Loader):
    def load(self, data: Any) -> Json:
        return Json(data)


class Statement(str):
    """The text of a named query with $1, $2... and the names of its parameters in that order."""

    name: bytes
    text: bytes
    parameters: list[str]
    primary = autonomous = custom_plan = False  # tags of the comment under its name

    @classmethod
    def make(cls, name: str, text: str) -> "Statement":
        names: list[str] = []

        def number(found: re.Match[str]) -> str:
            if found["dquote"] is not None or found["squote"] is not None:
                return found[0]
            if found["var_name"] not in names:
                names.append(found["var_name"])
            return f"{found['lead']}${names.index(found['var_name']) + 1}"

        self = cls(VAR_REF.sub(number, text))
        self.name, self.text, self.parameters = name.encode(), self.encode(), names
        return self

    def read_tags(self, comment: str) -> None:
        """Take the tags that steer a query from its comment.

        @primary: read on the writing side even when reads go to standbys. @autonomous: a transaction of its own, kept whatever
        becomes of the request. @custom_plan: planned for the values at hand, not prepared.

        :raises ValueError: there is no such tag.
        """
        tags = set(re.findall(r"@(\w+)", comment))
        if unknown := tags - {"primary", "autonomous", "custom_plan"}:
            raise ValueError(f"query {self.name.decode()}: no such tag: @{' @'.join(sorted(unknown))}")
        self.primary, self.autonomous, self.custom_plan = (tag in tags for tag in ("primary", "autonomous", "custom_plan"))

    def values(self, named: dict[str, Any]) -> list[bytes | None]:
        """Parameters in PostgreSQL's text format."""
        values = []
        for name in self.parameters:
            value = named[name]
            if value is not None:
                value = str(value).encode()
                if b"\0" in value:  # libpq would silently cut there
                    raise Problem(400, "a text cannot hold a NUL character")
            values.append(value)
        return values


Command = tuple[Statement, Sequence[bytes | None]]

BEGIN = Statement.make("_begin", "BEGIN")
BEGIN_READ = Statement.make("_begin_read", "BEGIN READ ONLY")
COMMIT = Statement.make("_commit", "COMMIT")
ROLLBACK = Statement.make("_rollback", "ROLLBACK")
# what the triggers and the server's own log may want to know of the request; local to the transaction
NAME = "set_config('application_name', left(current_setting('application_name') || ' ' || :request, 63), TRUE)"
CONTEXT = Statement.make(
    "_context",
    "SELECT set_config('engine.login', :login, TRUE), set_config('engine.request', :request, TRUE),"
    " set_config('engine.address', :address, TRUE), " + NAME,
)
TRACE = Statement.make("_trace", "SELECT " + NAME)
TIMEOUT = Statement.make("_timeout", "SELECT set_config('statement_timeout', :timeout, TRUE)")
