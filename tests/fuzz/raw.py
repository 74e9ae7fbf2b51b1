"""Requests that no client library would send, over raw sockets: `make fuzz`. See `--help`.

Every request is made from a seed and its number, so a failure can be sent again. It fails on an answer of 5xx, an answer or a
log with a stack, a connection left idle in transaction, a server that dies, or memory that keeps growing.
"""

import argparse
import base64
import json
import os
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes, urlencode

import psycopg

CRLF = b"\r\n"
INTEGERS = [0, 1, 2, -1, 2**31 - 1, 2**31, -(2**31), 2**63, 10**17, 10**400, 0x10]
TEXTS = [
    "",
    "x",
    "Desk",
    "a\0b",
    "\ud800",
    "\udfff\ud800",
    "\U0010ffff",
    "\ufeff",
    "é" * 300,
    "x" * 513,
    "%",
    "_%\\",
    "\\",
    "'; DROP TABLE Stuff; --",
    "${7*7}{{7*7}}",
    "../../etc/passwd",
    "\r\nX-Evil: 1",
    "<script>alert(1)</script>",
    "null",
    "NaN",
    "1e999",
    "٣",
    "2026-01-31T12:00:00Z",
    "9999-12-31T23:59:59-23:59",
    "WyJzaWQiLDFd",
    "W1tb",
]
NAMES = "stuff filter limit after sort items login pword pass admin u object i j apass old new table since sid x".split()  # noqa: SIM905
KINDS = [
    "application/json",
    "application/json; charset=utf-16",
    "application/json;charset=nope",
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded; charset=utf-7",
    "multipart/form-data; boundary=b",
    "multipart/form-data",
    "multipart/form-data; boundary=" + "b" * 300,
    "text/plain",
    "application/problem+json",
    ";",
    "",
]
USERS = [
    ("calvin", "hobbes"),
    ("hobbes", "susie"),
    ("susie", "derkins"),
    ("nobody", "x"),
    ("calvin", "\0"),
    ("é", "é" * 100),
    ("", ""),
]


class Maker:
    """One request from a seed."""

    def __init__(self, operations: list[tuple[str, str, list[str]]], seed: str) -> None:
        self.random = random.Random(seed)
        self.path, self.method, names = self.random.choice(operations)
        self.names = names if names and self.random.random() < 0.8 else NAMES
        self.patience = 10.0  # seconds: the answer to a whole request is waited for

    def text(self) -> str:
        dice = self.random
        if dice.random() < 0.3:
            return "".join(
                chr(dice.choice([dice.randrange(32, 127), dice.randrange(0x110000), 0])) for _ in range(dice.randrange(9))
            )
        return dice.choice(TEXTS)

    def encoded(self) -> str:
        """A value in a URL or form: mostly right, at times of broken or overlong UTF-8."""
        if self.random.random() < 0.15:
            return self.random.choice(["%", "%zz", "%ff", "%c0%af", "%ed%a0%80", "%00", "%u0041", "+", "&", "=", ";", "%25%00"])
        value = self.text() if self.random.random() < 0.7 else str(self.random.choice(INTEGERS))
        return quote_from_bytes(value.encode("utf-8", "surrogatepass"))

    def plain(self) -> dict[str, str]:
        """All parameters of the operation, with values that may be right."""
        dice = self.random
        return {
            name: dice.choice([f"word {dice.randrange(10_000)}", f"w{dice.randrange(99)}-long", "5"]) for name in self.names
        }

    def form(self) -> bytes:
        if self.random.random() < 0.4 and self.names is not NAMES:
            return urlencode(self.plain()).encode()
        pairs = [f"{self.random.choice(self.names)}={self.encoded()}" for _ in range(self.random.randrange(4))]
        return self.random.choice(["&", "&", "&", ";", "&&"]).join(pairs).encode()

    def value(self, depth: int = 0) -> object:
        dice = self.random
        kind = dice.randrange(8 if depth < 3 else 6)
        if kind < 3:
            return self.text()
        if kind == 3:
            return dice.choice(INTEGERS)
        if kind < 6:
            return dice.choice([None, True, False, 1.5, -0.0, 1e300])
        if kind == 6:
            return [self.value(depth + 1) for _ in range(dice.randrange(4))]
        return {dice.choice(self.names): self.value(depth + 1) for _ in range(dice.randrange(4))}

    def json(self) -> bytes:
        dice = self.random
        if dice.random() < 0.4 and self.names is not NAMES:
            return json.dumps(self.plain()).encode()
        member = json.dumps(dice.choice(self.names))
        odd = [
            b"[" * dice.randrange(1, 60_000),
            b'{"stuff":' * dice.randrange(1, 20_000),
            f"{{{member}: {json.dumps(self.text())}, {member}: 1}}".encode(),
            f"{{{member}: {dice.choice(['NaN', '-Infinity', '1e999', '-0', '01', '0x10', '9' * 5000])}}}".encode(),
            b'{"stuff": "\\ud800"}',
            b'{"stuff": "\\u0000"}',
            b'{"stuff": "\xff\xfe"}',
            json.dumps({"stuff": "x"}).encode("utf-16"),
            b"\xef\xbb\xbf" + json.dumps({"stuff": "x"}).encode(),
            json.dumps(self.value()).encode()[: dice.randrange(1, 20)],
            json.dumps(self.value()).encode(),
            b'{"items": ' + json.dumps([{"stuff": self.text()} for _ in range(dice.randrange(60))]).encode() + b"}",
        ]
        if dice.random() < 0.4:
            return dice.choice(odd)
        return json.dumps({dice.choice(self.names): self.value() for _ in range(dice.randrange(4))}).encode()

    def multipart(self) -> bytes:
        dice = self.random
        part = f'--b\r\nContent-Disposition: form-data; name="{dice.choice(self.names)}"'
        part += dice.choice(["", '; filename="x"', "; filename*=utf-8''%ff", "\r\nContent-Type: application/json"])
        body = part.encode() + b"\r\n\r\n" + self.text().encode("utf-8", "surrogatepass") + b"\r\n"
        return body * dice.randrange(1, 4) + dice.choice([b"--b--\r\n", b"--b", b""])

    def headers(self) -> Iterator[bytes]:
        dice = self.random
        odd = self.text().encode("utf-8", "surrogatepass").replace(b"\n", b"").replace(b"\r", b"")
        options = {
            b"Accept": [
                b"*/*",
                b"application/json",
                b"text/html",
                b"application/problem+json",
                b"a/b;q=x, */*;q=0",
                b",;,",
                odd,
            ],
            b"If-Match": [b'"1"', b"*", b'W/"1"', b'"', b'"1", "2"', b'"99999999999999"', odd],
            b"If-None-Match": [b'"1"', b"*", b'W/"', odd],
            b"Idempotency-Key": [b"k", b"x" * 65, odd, str(dice.randrange(1000)).encode()],
            b"Prefer": [b"count=exact", b"count", odd],
            b"X-Request-Id": [b"abc", b"x" * 100, odd],
            b"Origin": [b"https://shop.example", b"null", odd],
            b"Expect": [b"100-continue", b"nothing"],
            b"Content-Encoding": [b"gzip", b"identity"],
            b"Range": [b"bytes=0-1", b"bytes=9-1", odd],
            b"Host": [b"", b"x:99999", odd],
            b"X-Forwarded-For": [b"1.2.3.4", odd],
            b"Cookie": [b"a=b; c", odd],
            odd or b"X": [odd],
        }
        for name in dice.sample(sorted(options), dice.choice([0, 0, 1, 1, 2, 4])):
            for _ in range(1 + (dice.random() < 0.05)):
                yield name + b": " + dice.choice(options[name])
        if dice.random() < 0.6:
            login, password = dice.choice(USERS) if dice.random() < 0.4 else USERS[0]
            credentials = base64.b64encode(f"{login}:{password}".encode())
            yield b"Authorization: " + dice.choice(
                [b"Basic " + credentials] * 6
                + [
                    b"Basic " + credentials[:-3],
                    b"Basic \xff",
                    b"Basic",
                    b"Bearer x",
                    b"Bearer stuff:calvin:20991231000000:00",
                    b"bearer a.b.c",
                    odd,
                ]
            )

    def request(self) -> bytes:
        dice, path = self.random, self.path
        for name in ("sid", "uid", "oid", "file"):
            good = quote(str(dice.randrange(1, 4))) if dice.random() < 0.7 else self.encoded()
            path = path.replace("{" + name + "}", good)
        if dice.random() < 0.4:
            path += "?" + self.form().decode("latin1")
        odd = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW", "get", "G\xe9T"]
        method = self.method if dice.random() < 0.8 else dice.choice(odd)
        head = [f"{method} {path} HTTP/1.1".encode("latin1"), b"Host: localhost", b"Connection: close", *self.headers()]
        body = dice.choice([b"", self.form(), self.json(), self.json(), self.multipart()])
        if body or dice.random() < 0.2:
            head.append(
                b"Content-Type: "
                + (KINDS[0] if body[:1] in b"{[" else KINDS[3] if dice.random() < 0.7 else dice.choice(KINDS)).encode()
            )
        framing = dice.random()
        if framing < 0.75 or not body:
            head.append(b"Content-Length: %d" % len(body))
        elif framing < 0.85:
            cut = dice.randrange(len(body))
            body = (
                b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (cut, body[:cut], len(body) - cut, body[cut:]) if cut else b"0\r\n\r\n"
            )
            head.append(b"Transfer-Encoding: chunked")
        elif framing < 0.9:
            body = dice.choice(
                [b"zz\r\nx\r\n", b"ffffffffffffffff\r\nx", b"-1\r\n", b"5\r\nab\r\n0\r\n\r\n", b"5;x=\0\r\nabcde\r\n0\r\n\r\n"]
            )
            head.append(b"Transfer-Encoding: " + dice.choice([b"chunked", b"gzip, chunked", b"chunked, identity", b"xchunked"]))
        elif framing < 0.95:
            head.append(
                b"Content-Length: "
                + dice.choice(
                    [b"-1", b"1e3", b"9" * 30, b"%d" % (len(body) + 7), b"3", b"0", b"\xff", b"1\r\nContent-Length: 2"]
                )
            )
        else:
            head += [b"Content-Length: 3", b"Transfer-Encoding: chunked"]
        if body and framing >= 0.85:
            self.patience = 0.2
        whole = CRLF.join(head) + CRLF + CRLF + body
        if dice.random() > 0.03:
            return whole
        self.patience = 0.2
        damaged = bytearray(whole[: dice.randrange(1, len(whole))])
        for _ in range(dice.randrange(4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        return bytes(damaged)


def ask(address: tuple[str, int], request: bytes, patience: float = 10) -> bytes:
    """What the server answers until it closes; nothing if it waits for the rest of a request that has none."""
    answer = b""
    with socket.create_connection(address, 10) as link, suppress(ConnectionError, TimeoutError):
        link.settimeout(patience)
        link.sendall(request)
        while part := link.recv(65536):
            answer += part
    return answer


def properties(operation: dict[str, Any]) -> Iterator[str]:
    """The names of the parameters of an operation, but for those in its path and headers."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield from content["schema"]["properties"]
    yield from (one["name"] for one in operation.get("parameters", ()) if one["in"] == "query")


def memory(pids: list[int]) -> int:
    """Resident memory, in kB, of processes."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4 for pid in pids)


def main() -> int:
    """Send, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("log", type=Path, help="the server's log")
    parser.add_argument("pidfile", type=Path, help="the server's process id")
    parser.add_argument("-n", "--number", type=int, default=100_000, help="requests")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--threads", type=int, default=4)
    given = parser.parse_args()
    address = ("127.0.0.1", given.port)
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    document = json.loads(ask(address, request).split(CRLF * 2, 1)[1])
    operations = [
        (path, method.upper(), list(properties(operation)))
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    main_pid = int(given.pidfile.read_text())
    children = Path(f"/proc/{main_pid}/task/{main_pid}/children").read_text
    pids = [main_pid, *map(int, children().split())]
    counts: Counter[str] = Counter()
    faults: list[str] = []
    numbers = iter(range(given.number))
    lock = threading.Lock()
    sizes = []

    def work() -> None:
        while len(faults) < 20:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            maker = Maker(operations, f"{given.seed}/{number}")
            request = maker.request()
            answer = ask(address, request, maker.patience)
            final = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
            status = final[9:12].decode("latin1") if final.startswith(b"HTTP/1.") else "odd" if final else "none"
            with lock:
                counts[status] += 1
                if status[0] in "5o" or (status == "none" and maker.patience > 1) or b"Traceback" in answer:
                    faults.append(f"{number}: {request[:300]!r} -> {answer[:300]!r}")
                if number % (given.number // 20 or 1) == 0:
                    sizes.append(memory(pids))

    started = time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(given.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if [main_pid, *map(int, children().split())] != pids:
        faults.append("a worker died")
    log = given.log.read_text(errors="replace")
    for word in ("Traceback", '"level": "ERROR"', "panicked"):
        if word in log:
            faults.append(f"{word} in the log: " + log[log.index(word) - 200 :][:1000])
    with psycopg.connect() as link:
        left = link.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        ).fetchone()
    if left != (0,):
        faults.append(f"connections idle in transaction: {left}")
    half = len(sizes) // 2
    if half and max(sizes[half:]) > 1.1 * max(sizes[:half]):
        faults.append("memory grows")
    print(
        f"{sum(counts.values())} requests in {time.monotonic() - started:.0f} s, seed {given.seed}:",
        dict(sorted(counts.items())),
    )
    print("memory of the server, MB:", *(round(size / 1000) for size in sizes))
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    os.environ.setdefault("PGCONNECT_TIMEOUT", "5")
    sys.exit(main())
