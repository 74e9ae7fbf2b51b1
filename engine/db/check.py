"""Named queries are prepared, hence parsed and typed by the server, before a request needs them. Imported by commands."""

import re
from pathlib import Path

import psycopg
from aiosql.utils import VAR_REF
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from engine.db.statement import Statement

NAME = re.compile(r"^-- name: *(\w+).*$", re.MULTILINE)
COMMENT = re.compile(r"^[ \t]*--.*$", re.MULTILINE)


def faults(pg: PGconn, path: Path) -> list[str]:
    """Each query of a file that the server refuses: file, line, column, query, and the server's words.

    :param pg: a connection outside of a transaction.
    :param path: file of named queries.
    """
    text, found = path.read_text(), []
    names = list(NAME.finditer(text))
    for name, end in zip(names, [*(after.start() for after in names[1:]), len(text)], strict=True):
        # comments and parameters keep their length, so a position in what is prepared is one in the file
        body = COMMENT.sub(lambda comment: " " * len(comment[0]), text[name.end() : end])
        parameters = Statement.make(name[1], body).parameters

        def number(at: re.Match[str], parameters: list[str] = parameters) -> str:
            if at["var_name"] is None:
                return at[0]
            return f"{at['lead']}${parameters.index(at['var_name']) + 1}".ljust(len(at[0]))

        result = pg.prepare(b"", VAR_REF.sub(number, body).encode())
        if result.status != ExecStatus.COMMAND_OK:
            said = psycopg.errors.error_from_result(result).diag
            place = name.end() + int(said.statement_position or 2) - 1
            line, column = text.count("\n", 0, place) + 1, place - text.rfind("\n", 0, place)
            found.append(f"{path.name}:{line}:{column}: query {name[1]}: {said.message_primary}")
    return found
