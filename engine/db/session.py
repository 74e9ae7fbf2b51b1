"""Sessions: connections to PostgreSQL that send named statements and wait with a deadline. Imported by the pool.

Statements go to libpq directly (psycopg.pq): that halves what a cursor costs, and lets BEGIN travel with the first statement.
Each is one blocking call, during which other threads run, or a batch of them, sent and waited for step by step; the watch ends
the waits that last.
"""

import math
import os
import select
import socket
import threading
import time
from contextlib import suppress
from typing import Any, cast

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from engine.db.statement import Command, Statement
from engine.db.watch import watch


class Silence(psycopg.OperationalError):
    """The server said nothing for too long."""


DONE = {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}


class Session:
    """One connection, on which statements are prepared once and every wait ends.

    :param wait: longest silence of the server, in seconds, before the connection is given up.
    :param patience: the same of a server that is gone, in seconds: half of them, then it is asked, and has the other half.
    :param pooler: behind a transaction pooler: nothing is prepared, nothing outlives a transaction.
    """

    def __init__(self, connection: "psycopg.Connection[Any]", wait: float, patience: float, pooler: bool) -> None:
        self.connection = connection
        self.connection.add_notice_handler(self._notice)
        self.pg = self.connection.pgconn
        self.rows = Transformer(self.connection)
        self.pooler, self.prepared = pooler, set[bytes]()
        self._columns: dict[bytes, list[str]] = {}  # of what is prepared
        self.wait, self.patience = wait, patience
        self.replicated = True  # whether all it committed is where it was to be kept
        self.until = math.inf  # when it has served long enough, in the seconds of `time.monotonic()`
        self.since = 0.0  # when the wait at hand began, in the seconds of `time.monotonic()`; 0: there is none
        self.used = 0.0  # when the last one began
        self.asked = 0.0, 0.0  # about which wait the server was asked, and after how much of it to ask again
        self.silent = False  # whether it was given up
        self._line = socket.socket(fileno=os.dup(self.pg.socket))  # a handle for the watch
        self._closing = threading.Lock()
        self.poll = select.poll()
        self.poll.register(self.pg.socket, select.POLLIN)
        watch.add(self)

    def alive(self) -> bool:
        """Whether the connection is fit for a request; costs two system calls, no round trip."""
        try:
            self.pg.consume_input()  # what came while idle: a notice, or a farewell
            self.pg.consume_input()  # and then the end. poll() would hand the interpreter to another thread
        except psycopg.Error:
            return False
        return self.idle()

    def _notice(self, diagnostic: Any) -> None:
        # the wait for the standbys was cancelled: the server says COMMIT nevertheless, but a failover may lose it
        if diagnostic.source_function == "SyncRepWaitForLSN":
            self.replicated = False

    def idle(self) -> bool:
        return bool(self.pg.transaction_status == TransactionStatus.IDLE)

    def lost(self) -> bool:
        """Whether the connection is gone."""
        return bool(self.pg.status != ConnStatus.OK)

    def close(self) -> None:
        watch.remove(self)
        with self._closing:
            self._line.close()
        with suppress(ValueError):  # it was closed before
            self.connection.remove_notice_handler(self._notice)  # a cycle, which would stay until the collector comes by
        self.connection.close()

    def cut(self, since: float) -> None:
        """End the wait that began then, if it still lasts; from another thread."""
        with self._closing:
            if self.since == since and self._line.fileno() >= 0:
                self.silent = True
                with suppress(OSError):  # it has ended by itself
                    self._line.shutdown(socket.SHUT_RDWR)

    def checked(self, *results: PGresult | None) -> PGresult:
        """The last of the results of statements, none of which failed.

        :raises psycopg.Error: one did; Silence where the server said nothing for too long.
        """
        for result in results:
            if result is None or result.status not in DONE:
                if self.silent:
                    raise Silence("no answer within the deadline")
                if result and result.error_field(DiagnosticField.SQLSTATE):
                    raise psycopg.errors.error_from_result(result)
                # libpq's own word, not the server's: the connection is gone
                raise psycopg.OperationalError(result.get_error_message() if result else "no result")
        return cast(PGresult, results[-1])

    def run(self, statement: Statement, values: list[bytes | None]) -> PGresult:
        """One statement in one round trip."""
        self.used = self.since = time.monotonic()
        try:
            if self.pooler or statement.custom_plan:
                return self.checked(self.pg.exec_params(statement.text, values))
            if statement.name not in self.prepared:
                self._prepare(statement)
            return self.checked(self.pg.exec_prepared(statement.name, values))  # type: ignore[arg-type]
        finally:
            self.since = 0.0

    def _prepare(self, statement: Statement) -> None:
        self.checked(self.pg.prepare(statement.name, statement.text))
        self.prepared.add(statement.name)

    def batch(self, *commands: Command) -> list[PGresult | None]:
        """Several statements in one round trip (libpq's pipeline mode), to be checked one by one: the first error ends them."""
        pg, results = self.pg, list[PGresult | None]()
        self.used = self.since = time.monotonic()
        try:
            for statement, _ in commands:
                if statement.name not in self.prepared and not (self.pooler or statement.custom_plan):
                    self._prepare(statement)
            pg.enter_pipeline_mode()
            for statement, values in commands:
                if self.pooler or statement.custom_plan:
                    pg.send_query_params(statement.text, values)
                else:
                    pg.send_query_prepared(statement.name, values)
            self.sync()
            if pg.flush():
                self._flush()
            else:
                self._more()
            for _ in commands:
                results.append(self._result())
                pg.get_result()  # nothing more of this one, which libpq knows by itself
            self._result()  # the end of all
            pg.exit_pipeline_mode()
            return results
        except psycopg.OperationalError as error:
            raise (Silence("no answer within the deadline") if self.silent else error) from error
        finally:
            self.since = 0.0

    def sync(self) -> None:
        """End a batch and send it."""
        self.pg.pipeline_sync()

    def _flush(self) -> None:
        while self.pg.flush():
            self.poll.modify(self.pg.socket, select.POLLIN | select.POLLOUT)
            self._more()
            self.poll.modify(self.pg.socket, select.POLLIN)

    def _more(self) -> None:
        self.poll.poll()
        self.pg.consume_input()

    def _result(self) -> PGresult | None:
        while self.pg.is_busy():  # get_result() would wait as well, but keep all other threads from running
            self._more()
        return self.pg.get_result()

    def load(self, statement: Statement, result: PGresult) -> list[dict[str, Any]]:
        """The rows of a statement's result, as dictionaries."""
        if not result.nfields:
            return []
        names = self._columns.get(statement.name)
        if names is None:
            names = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
            if statement.name in self.prepared:  # its columns stay what they are, or it fails
                self._columns[statement.name] = names
        self.rows.set_pgresult(result)
        rows = []
        for row in self.rows.load_rows(0, result.ntuples, tuple):
            rows.append(dict(zip(names, row, strict=True)))
        return rows
