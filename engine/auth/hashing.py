"""A bounded place for the hashes of passwords: so many at once in a process, behind everything else. Imported by auth.

A hash costs a quarter of a second of a core. Were each thread free to make one, as many clients as there are threads would stop
those that only read. Who finds no place is told to come again, at once: waiting would hold his thread as well.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from engine.problem import Problem

NICE = 10  # of 19: a hash gives way to requests, and still gets a tenth of a core that is busy


class Place:
    """Threads of their own that hash; entered before the work, with no more at once than there are threads."""

    def __init__(self, size: int) -> None:
        self._free = threading.BoundedSemaphore(size)
        self._threads = ThreadPoolExecutor(size, "hash", _stand_back)

    def __enter__(self) -> "Place":
        """Enter.

        :raises Problem: 503 if there is no room.
        """
        if not self._free.acquire(blocking=False):
            raise Problem(503, "too many passwords are being checked, try again later", "hashing_busy")
        return self

    def __exit__(self, *_: object) -> None:
        self._free.release()

    def run(self, work: Callable[..., Any], *values: Any) -> Any:
        """The result of a call, made by one of the threads."""
        return self.start(work, *values).result()

    def start(self, work: Callable[..., Any], *values: Any) -> Future[Any]:
        """The result to come of a call, which one of the threads makes meanwhile."""
        return self._threads.submit(work, *values)


def _stand_back() -> None:
    with suppress(OSError, OverflowError):  # elsewhere than on Linux a thread has no priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
