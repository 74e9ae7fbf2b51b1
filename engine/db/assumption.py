"""Rows assumed unchanged, so that a request need not wait for them first."""

from collections.abc import Callable
from itertools import repeat
from typing import Any

from psycopg.pq.abc import PGresult

from engine import errors
from engine.db.session import Session
from engine.db.statement import Statement


class Assumption:
    """A row assumed unchanged; verified in the round trip of the next statement.

    :param fits: whether what was found is what was assumed.
    """

    __slots__ = ("fits", "known", "statement", "values")

    def __init__(self, statement: Statement, values: list[bytes | None], fits: Callable[[dict[str, Any] | None], bool]) -> None:
        self.statement, self.values, self.fits = statement, values, fits
        self.known: tuple[bytes | None, ...] | None = None  # as the server sent it when it was last found to fit

    def judge(self, row: dict[str, Any] | None) -> None:
        """Compare the row, if there is one, with what was assumed.

        :raises errors.Problem: it is not so, run the request again.
        """
        if not self.fits(row):
            raise errors.Problem(503, retry=True)

    def check(self, session: Session, result: PGresult) -> None:
        """Verify the raw result; skip decoding if its bytes equal those last accepted."""
        found = tuple(map(result.get_value, repeat(0), range(result.nfields))) if result.ntuples else None
        if found is None or found != self.known:
            self.judge(session.load(self.statement, result)[0] if found else None)
            self.known = found
