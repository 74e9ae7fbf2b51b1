"""libpq's own end of a batch, by ctypes: psycopg 3.3's keeps other threads from running until the server has been woken up.

What it buys: docs/performance.md. It leans on the layout of nothing but `PGconn *`, and on libpq's public PQpipelineSync.
"""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from psycopg.pq.abc import PGconn

from engine.db.database import DB
from engine.db.session import Session


def sender(maps: Path) -> Callable[[PGconn], None]:
    """What ends a batch and sends it. psycopg's own keeps other threads from running until the server has been woken up.

    :param maps: names the libraries of this process (proc_pid_maps(5)); unless there is one libpq, psycopg's call serves.
    """
    found = set(re.findall(r"/\S*/libpq[-.]\S*$", maps.read_text(), re.MULTILINE)) if maps.exists() else set()
    if len(found) != 1:  # a server may bring another one, whose structures are not ours
        return lambda pg: pg.pipeline_sync()
    sync = ctypes.CDLL(found.pop()).PQpipelineSync
    sync.argtypes = [ctypes.c_void_p]

    def send(pg: Any) -> None:
        if not sync(pg.pgconn_ptr):
            raise psycopg.OperationalError("the connection is closed")

    return send


send = sender(Path("/proc/self/maps"))


class FastSession(Session):
    """A session that sends its batches so."""

    def sync(self) -> None:
        send(self.pg)


def install() -> None:
    """Have all databases made from now on use such sessions."""
    DB.session_class = FastSession
