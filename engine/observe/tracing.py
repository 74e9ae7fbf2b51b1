"""Traces of requests: W3C trace context read and answered, spans exported to a collector if one is named. Imported by observe.

Spans leave by a thread, as OTLP over HTTP in JSON (https://opentelemetry.io/docs/specs/otlp/), which every OpenTelemetry
collector takes: no library is needed for it, and without a collector nothing of this runs.
"""

import atexit
import json
import logging
import os
import random
import re
import threading
import time
import urllib.request
from collections import deque
from typing import Any, NamedTuple

log = logging.getLogger("engine.tracing")

# https://www.w3.org/TR/trace-context/: a version above 00 may say more, ff is none, zeros are nobody
PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
PERIOD = 2.0  # seconds between two exports
MOST = 2048  # spans that wait; beyond, the oldest are dropped


class Trace(NamedTuple):
    """The trace that a request is part of."""

    trace: str
    parent: str | None
    span: str
    sampled: bool

    def header(self) -> str:
        """What `traceresponse` tells the caller."""
        return f"00-{self.trace}-{self.span}-{'01' if self.sampled else '00'}"


def read(header: str) -> Trace | None:
    """The trace that a `traceparent` header continues; None if it is malformed, as if there was none."""
    found = PARENT.fullmatch(header)
    if not found or (found[1] == "00" and found[5]):
        return None
    return Trace(found[2], found[3], os.urandom(8).hex(), bool(int(found[4], 16) & 1))


class Exporter:
    """Spans on their way to a collector.

    :param url: of its traces, http://collector:4318/v1/traces.
    :param ratio: share of the requests without a trace of their own to begin one for.
    :param resource: what all spans say of this server.
    """

    def __init__(self, url: str, ratio: float, resource: dict[str, Any]) -> None:
        self.url, self.ratio, self.resource = url, ratio, _attributes(resource)
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MOST)
        self._thread: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._forked)
        atexit.register(self.export)

    def _forked(self) -> None:
        self._waiting.clear()
        self._thread = None

    def begin(self) -> Trace | None:
        """A new trace, for some requests."""
        if random.random() >= self.ratio:  # noqa: S311
            return None
        return Trace(os.urandom(16).hex(), None, os.urandom(8).hex(), True)

    def add(self, trace: Trace, name: str, began: float, parts: list[tuple[str, float, float]], **attributes: Any) -> None:
        """Export a request and its parts.

        :param began: when, in the seconds of `time.perf_counter()`, as for the parts: name, begin, duration.
        """
        now, offset = time.perf_counter(), time.time_ns() - int(1e9 * time.perf_counter())
        failed = {"code": 2} if attributes["http.response.status_code"] >= 500 else {}
        self._add(trace, trace.span, trace.parent, name, 2, offset, began, now, attributes, status=failed)
        for part, start, seconds in parts:
            query = {"db.system.name": "postgresql", "db.query.summary": part}
            self._add(trace, os.urandom(8).hex(), trace.span, part, 3, offset, start, start + seconds, query)
        if not self._thread:
            self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
            self._thread.start()

    def _add(
        self, trace: Trace, span: str, parent: str | None, name: str, kind: int,
        offset: int, began: float, ended: float, attributes: dict[str, Any], **more: Any,
    ) -> None:  # fmt: skip
        times = {"startTimeUnixNano": str(offset + int(1e9 * began)), "endTimeUnixNano": str(offset + int(1e9 * ended))}
        known = {"parentSpanId": parent} if parent else {}
        ids = {"traceId": trace.trace, "spanId": span, "name": name, "kind": kind}
        self._waiting.append(ids | known | times | {"attributes": _attributes(attributes)} | more)

    def _run(self) -> None:
        while True:
            time.sleep(PERIOD)
            self.export()

    def export(self) -> None:
        """Send what waits; what a collector does not take is dropped, and said."""
        spans = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not spans:
            return
        scope = [{"scope": {"name": "stuff"}, "spans": spans}]
        body = json.dumps({"resourceSpans": [{"resource": {"attributes": self.resource}, "scopeSpans": scope}]}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})  # noqa: S310  # configured
        try:
            urllib.request.urlopen(request, timeout=PERIOD).close()  # noqa: S310
        except OSError as error:
            log.warning("%d spans not exported: %s", len(spans), error)


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    kinds = {int: "intValue", str: "stringValue"}
    return [{"key": key, "value": {kinds[type(value)]: str(value)}} for key, value in values.items() if value is not None]
