"""Rows assumed unchanged, so that a request need not wait for them first."""

from collections.abc import Callable
from itertools import repeat
from typing import Any

from psycopg.pq.abc import PGresult

from engine.db.session import Session
from engine.db.statement import Statement
from engine.problem import Problem


class Assumption:
    """A row assumed unchanged; verified in the round trip of the next statement.

    :param statement: reads the row.
    :param locks: reads it and keeps it as it is until the end of the transaction: for what changes this row, and for the rest.
    :param fits: whether what was found is what was assumed.
    """

    __slots__ = ("fits", "known", "locks", "statement", "values")

    def __init__(
        self,
        statement: Statement,
        locks: tuple[Statement, Statement],
        values: list[bytes | None],
        fits: Callable[[dict[str, Any] | None], bool],
    ) -> None:
        self.statement, self.locks, self.values, self.fits = statement, locks, values, fits
        self.known: tuple[bytes | None, ...] | None = None  # as the server sent it when it was last found to fit

    def judge(self, row: dict[str, Any] | None) -> None:
        """Compare the row, if there is one, with what was assumed.

        :raises Problem: it is not so, run the request again.
        """
        if not self.fits(row):
            raise Problem(503, retry=True)

    def check(self, session: Session, result: PGresult) -> None:
        """Verify the raw result; skip decoding if its bytes equal those last accepted."""
        found = tuple(map(result.get_value, repeat(0), range(result.nfields))) if result.ntuples else None
        if found is None or found != self.known:
            self.judge(session.load(self.statement, result)[0] if found else None)
            self.known = found
