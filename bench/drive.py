"""A load on an HTTP server: so many connections, each with one request at a time, as fast as it answers.

One process of this makes some 25,000 requests a second on a core: on a small machine it takes part of what it measures, so
compare its figures with its own figures only.
"""

import re
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Client:
    """One connection."""

    link: socket.socket
    sent: float = 0.0
    received: bytes = b""


@dataclass
class Outcome:
    """What came of it: latencies in milliseconds, sorted; how many answers were no 2xx."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    bad: int = 0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def quantile(self, part: float) -> float:
        """The latency, in milliseconds, that this part of the requests stayed within."""
        return self.latencies[min(int(part * len(self.latencies)), len(self.latencies) - 1)]


def complete(received: bytes) -> bool:
    """Whether an answer is all there."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = LENGTH.search(received, 0, end)
    return len(received) >= end + 4 + (int(length[1]) if length else 0)


def run(port: int, requests: Iterator[bytes], connections: int, seconds: float) -> Outcome:
    """Send requests to a local server for some seconds."""
    poll, clients, outcome = select.epoll(), {}, Outcome()
    for _ in range(connections):
        link = socket.create_connection(("127.0.0.1", port))
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        clients[link.fileno()] = Client(link)
        poll.register(link, select.EPOLLIN)
    begin = now = time.perf_counter()
    for client in clients.values():
        client.sent = time.perf_counter()
        client.link.sendall(next(requests))
    while now < begin + seconds:
        for number, _ in poll.poll(1.0):
            client = clients[number]
            client.received += client.link.recv(1 << 16)
            if complete(client.received):
                now = time.perf_counter()
                outcome.latencies.append(1000 * (now - client.sent))
                outcome.bad += client.received[9:10] != b"2"
                client.sent, client.received = now, b""
                client.link.sendall(next(requests))
        now = time.perf_counter()
    outcome.seconds = now - begin
    outcome.latencies.sort()
    for client in clients.values():
        client.link.close()
    return outcome
