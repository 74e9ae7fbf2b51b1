"""A driver's error to a Problem, by its SQLSTATE."""

import logging
import re

import psycopg

from engine.problem import Problem

log = logging.getLogger("engine.db")


def from_database(error: psycopg.Error, lost: bool = False, reads: bool = False) -> Problem:
    """Translate a driver's error; what it says stays in the log.

    :param error: as raised by psycopg.
    :param lost: the connection went away before COMMIT was sent, hence the server undoes the transaction.
    :param reads: the session was opened to read only, hence a refused write (25006) is a bug and no demoted server.
    """
    state, diag = error.sqlstate or "", error.diag
    table, name = diag.table_name or "", diag.constraint_name or ""
    field = re.sub(r"_(key|check|fkey|pkey)$", "", name.removeprefix(table + "_")) or diag.column_name
    if state == "23505":
        # NOTE Citus passes on the error of a shard without the name of the constraint
        return Problem(409, f"{field or 'it'} is already taken", "duplicate", field)
    if state == "23503":
        return Problem(409, "the object is still referenced", "still_referenced")
    if state == "ST409":  # raised by our own triggers and functions, the message is for the client
        return Problem(409, diag.message_primary, diag.message_hint)
    if state == "2200H":
        log.error("a sequence of keys is used up: %s", diag.message_primary)
        return Problem(503)
    if state in ("23502", "23514") or state[:2] in ("22", "54"):  # 54: too large for the server
        return Problem(400, f'parameter "{field}" is not acceptable' if field else "value not acceptable", field=field)
    if state == "57014":
        log.warning("statement cancelled: %s", diag.message_primary)
        return Problem(504)
    if state == "25006" and reads:
        log.error("a route that reads writes: %s", diag.message_primary, exc_info=error)
        return Problem(500)
    if lost or state in ("40001", "40P01", "25006", "25P03", "26000") or (state == "0A000" and "cached plan" in str(error)):
        # NOTE 25006 on the writing side is a demoted server, 25P03 a transaction that we left alone for too long (frozen, say),
        # 26000 and 0A000 a prepared statement that is no more
        log.warning("transaction undone: %s %s", state, diag.message_primary or type(error).__name__)
        return Problem(503, retry=True)
    if state[:2] in ("08", "53", "57", "58", "55") or isinstance(error, psycopg.OperationalError):
        log.error("database away: %s %s", state, diag.message_primary or error)
        return Problem(503)
    log.error("database: %s %s", state, diag.message_primary or error, exc_info=error)
    return Problem(500)
