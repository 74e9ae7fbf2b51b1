"""Counters that all processes of a server share, and their text for Prometheus. Imported by what counts.

Each process counts in its own file of a folder that they share, mapped into memory: to count is to add to a number there, under
a lock of this process alone, and what a killed process had counted is not lost. The next process to start adopts it.
"""

import fcntl
import mmap
import os
import shutil
import struct
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

KINDS = {  # name: (type, help)
    "http_requests_total": ("counter", "Requests answered, by route, method and status."),
    "http_request_duration_seconds": ("histogram", "Time to answer a request, from its first hook to its last."),
    "stuff_query_seconds": ("summary", "Time of a named query, the wait for a session included."),
    "stuff_query_errors_total": ("counter", "Statements that failed, by class of SQLSTATE; none: the connection did."),
    "stuff_pool_size": ("gauge", "Sessions that the pools may hold, all processes together."),
    "stuff_pool_in_use": ("gauge", "Sessions lent to requests, within the last 50 ms."),
    "stuff_pool_wait_seconds": ("summary", "Waits for a session where none was free."),
    "stuff_pool_refused_total": ("counter", "Requests for which no session became free in time."),
    "stuff_reads_on_primary_total": ("counter", "Reads meant for a standby, by why the primary was asked: behind, away."),
    "stuff_connections_total": ("counter", "Connections to the database, by outcome."),
    "stuff_auth_events_total": ("counter", "What happened at the door: logins, refusals, log-outs."),
    "stuff_password_memory_total": ("counter", "Passwords checked, by whether the verification was remembered."),
    "stuff_attempts_total": ("counter", "Attempts at a password, by the store that counted them."),
    "stuff_sequence_used_ratio": ("gauge", "How much of each sequence of keys is used up, of 1."),
    "stuff_changes_lag_seconds": ("gauge", "Age of the oldest change that waits for a transaction that still runs."),
    "stuff_info": ("gauge", "Versions of what runs, in its labels."),
    "stuff_processes": ("gauge", "Processes that serve."),
    "process_resident_memory_bytes": ("gauge", "Memory of each process."),
    "process_start_time_seconds": ("gauge", "When each process began to count, in seconds of the Unix epoch."),
}
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

# a record: the name of a series, and 16 numbers: a value or sum, then how many were under each bound and above
NAME, RECORD, RECORDS = 128, 256, 8192
STEP, FIRST = RECORD // 8, NAME // 8  # in numbers


class Counters:
    """What this process counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[str, int] = {}
        self._handles: dict[tuple[str, str | None, int], tuple[int, int]] = {}
        self._map = mmap.mmap(-1, RECORD * RECORDS)  # until it is opened
        self._numbers = memoryview(self._map).cast("d")
        self.folder = Path()

    def open(self, folder: str | None) -> None:
        """Begin to count.

        :param folder: shared by the processes of one server; None for one named after the process that started them.
        :raises OSError: the folder cannot be made or is another user's.
        """
        self._lock = threading.Lock()  # after a fork, the parent's may be held
        # a folder in a place that others write to may be theirs: then another name is tried, by all processes in one order
        for self.folder in [Path(folder)] if folder else _usual():
            if _made(self.folder):
                break
        else:
            raise PermissionError(f"{self.folder} is not ours")
        with self._exclusive():
            # NOTE the lock lasts as long as this process, unlike its number it cannot be another's
            path = self.folder / f"{os.getpid()}-{time.time_ns()}"
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
            os.truncate(file, RECORD * RECORDS)
            self._map = mmap.mmap(file, 0)
            self._numbers = memoryview(self._map).cast("d")
            for name, at in self._series.items():  # handles stay
                self._name(at, name)
            for path in self._files():
                if not _alive(path):
                    for name, numbers in _records(path.read_bytes()):
                        if KINDS[name.partition("{")[0]][0] != "gauge":
                            at = self._at(name)
                            for i, number in enumerate(numbers):
                                self._numbers[at + i] += number
                    path.unlink()
        self.set("process_start_time_seconds", time.time(), pid=os.getpid())
        self.set("stuff_processes", 1)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*-*"))

    def _at(self, name: str) -> int:
        """Where the numbers of a series are, a new one's after the others; beyond the last record all share it."""
        with self._lock:
            if name not in self._series:
                self._series[name] = min(len(self._series), RECORDS - 1) * STEP + FIRST
                self._name(self._series[name], name)
            return self._series[name]

    def _name(self, at: int, name: str) -> None:
        start = (at - FIRST) * 8
        self._map[start : start + NAME] = name.encode()[:NAME].ljust(NAME, b"\0")

    def at(self, name: str, **labels: Any) -> int:
        """A handle for what is counted often."""
        return self._at(_series(name, labels))

    def count(self, name: str, **labels: Any) -> None:
        """Count one more."""
        at = self.at(name, **labels)
        with self._lock:
            self._numbers[at] += 1.0

    def set(self, name: str, value: float, **labels: Any) -> None:
        """Set a gauge."""
        self._numbers[self.at(name, **labels)] = value

    def put(self, at: int, value: float) -> None:
        """Set the gauge at a handle."""
        self._numbers[at] = value

    def observe(self, at: int, seconds: float) -> None:
        """Add a duration to the summary at a handle."""
        with self._lock:
            self._numbers[at] += seconds
            self._numbers[at + 1] += 1.0

    def request(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count an answer."""
        key = (method if method in METHODS else "other", route, status)
        if key not in self._handles:
            labels = {"method": key[0], "route": route or "none"}
            duration = self.at("http_request_duration_seconds", **labels)
            self._handles[key] = self.at("http_requests_total", **labels, status=status), duration
        total, duration = self._handles[key]
        numbers = self._numbers
        with self._lock:
            numbers[total] += 1.0
            numbers[duration] += seconds
            numbers[duration + 1 + bisect_left(BOUNDS, seconds)] += 1.0

    def text(self, measured: dict[str, float] | None = None, **versions: Any) -> str:
        """Everything that was counted, in Prometheus's text format 0.0.4.

        :param measured: gauges that are those of all servers, by series.
        """
        found: dict[str, dict[str, list[float]]] = {name: {} for name in KINDS}
        found["stuff_info"][_series("stuff_info", versions)] = [1.0]
        for series, value in (measured or {}).items():
            found[series.partition("{")[0]][series] = [value]
        with self._exclusive():
            for path in self._files():
                alive = _alive(path)
                for series, numbers in _records(path.read_bytes()):
                    name = series.partition("{")[0]
                    if alive or KINDS[name][0] != "gauge":
                        so_far = found[name].get(series, [0.0] * len(numbers))
                        found[name][series] = [a + b for a, b in zip(so_far, numbers, strict=True)]
                pid = path.name.partition("-")[0]
                with suppress(OSError):
                    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                    memory = _series("process_resident_memory_bytes", {"pid": pid})
                    found["process_resident_memory_bytes"][memory] = [float(pages * os.sysconf("SC_PAGESIZE"))]
        lines = []
        for name, (kind, text) in KINDS.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            for series, sums in sorted(found[name].items()):
                lines += _lines(name, kind, series.removeprefix(name), sums)
        return "\n".join(lines) + "\n"


def _made(folder: Path) -> bool:
    """Make a folder; False if it is there and not ours."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return not folder.is_symlink() and folder.stat().st_uid == os.geteuid()


def _usual() -> Iterator[Path]:
    """Names of a folder in memory, where that can be; what servers that are no more have left is removed."""
    base = Path("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir())  # noqa: S108
    for path in base.glob(f"stuff-{os.geteuid()}-*"):
        try:
            os.kill(int(path.name.rpartition("-")[2]), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except (PermissionError, ValueError):
            continue
    return (base / f"stuff-{os.geteuid()}-{number}{os.getppid()}" for number in ("", *(f"{n}-" for n in range(1, 1000))))


def _alive(path: Path) -> bool:
    with open(path, "rb") as file, suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    return True


def _records(raw: bytes) -> Iterator[tuple[str, tuple[float, ...]]]:
    for start in range(0, len(raw), RECORD):
        name = raw[start : start + NAME].rstrip(b"\0").decode()
        if not name:
            return
        yield name, struct.unpack_from("16d", raw, start + NAME)


def _series(name: str, labels: dict[str, Any]) -> str:
    parts = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{parts}}}" if parts else name


def _lines(name: str, kind: str, labels: str, numbers: Any) -> Iterator[str]:
    if kind in ("counter", "gauge"):
        yield f"{name}{labels} {numbers[0]:.15g}"
        return
    count = 0.0
    if kind == "histogram":
        for bound, number in zip((*map(str, BOUNDS), "+Inf"), numbers[1:], strict=False):
            count += number
            yield f'{name}_bucket{labels[:-1]},le="{bound}"}} {count:.15g}'
    yield f"{name}_sum{labels} {numbers[0]:.15g}"
    yield f"{name}_count{labels} {count or numbers[1]:.15g}"


counters = Counters()
