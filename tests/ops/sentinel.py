"""Attempts counted in Redis, whose servers die and freeze under load: `make check.redis`.

A primary, a replica and three sentinels; two servers of the API. Whatever becomes of Redis: guesses are throttled, no request
ends in an error of the server or hangs, and who was removed, demoted or logged out is refused at once.
"""

import http.client
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from cluster import Cluster, Threads, at_once, basic, free_port, serving, wait, workplace
from redis import Redis, RedisError, Sentinel

from engine.auth.attempts import Attempts

PASSWORD, OPEN = os.urandom(12).hex(), os.urandom(12).hex()  # of Redis, of its sentinels
SERVER = """
bind 127.0.0.1
port {port}
dir {folder}
requirepass {password}
masterauth {password}
save ""
repl-diskless-sync-delay 0
"""
SENTINEL = """
bind 127.0.0.1
port {port}
dir {folder}
requirepass {open}
sentinel monitor main 127.0.0.1 {primary} 2
sentinel auth-pass main {password}
sentinel down-after-milliseconds main 500
sentinel failover-timeout main 1000
"""
SERIES = 16  # guesses at one account in a row
SLOWEST = 2.0  # seconds that an answer may take: three sentinels and two servers that are frozen are 1.25 s


class Process:
    """One server or sentinel, that keeps its configuration when it is started again."""

    def __init__(self, folder: Path, text: str, run: dict[str, Any], *options: str, **values: Any) -> None:
        self.port, self.run, self.options = free_port(), run, options
        self.folder = folder / f"redis-{self.port}"
        self.folder.mkdir()
        self.conf = self.folder / "redis.conf"
        self.conf.write_text(text.format(port=self.port, folder=self.folder, password=PASSWORD, open=OPEN, **values))
        for path in (self.folder, self.conf):
            shutil.chown(path, folder.stat().st_uid, folder.stat().st_gid)
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(["redis-server", self.conf, *self.options], **self.run)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()


class Guessers(Threads):
    """Clients that try wrong passwords, so many at an account of their own, while others ask who they are."""

    def __init__(self, ports: list[int], token: str) -> None:
        super().__init__(self._run, 6)
        self.answers: list[tuple[float, float, int, str]] = []  # when it began, seconds, status, login
        self._ports, self._token, self._numbers = ports, token, itertools.count()

    def _run(self, number: int) -> None:
        while not self.over.is_set():
            login = f"guess-{os.getpid()}-{next(self._numbers)}" if number % 3 else ""
            for turn in range(SERIES):
                header = basic(login, "wrong") if login else f"Bearer {self._token}"
                began = time.monotonic()
                status = ask(self._ports[turn % 2], "GET", "/whoami", header)[0]
                self.answers.append((began, time.monotonic() - began, status, login))
                time.sleep(0.01)

    def check(self, what: str, since: float) -> None:
        """What was answered since then."""
        answers = [answer for answer in self.answers if answer[0] >= since]
        counts = Counter(("guess" if login else "token", status) for _, _, status, login in answers)
        series = defaultdict(list)
        for _, _, status, login in self.answers:
            series[login].append(status)
        whole = [statuses.count(401) for login, statuses in series.items() if login and len(statuses) == SERIES]
        slowest = max(seconds for _, seconds, _, _ in answers)
        print(
            f"{what}: " + ", ".join(f"{n} x {kind} {status}" for (kind, status), n in sorted(counts.items()))
            + f"; slowest {slowest:.2f} s; of {len(whole)} series so far {len(whole) - whole.count(5)} had not 5 guesses,"
            f" but up to {max(whole)}",
        )  # fmt: skip
        if set(counts) - {("guess", 401), ("guess", 429), ("token", 200)}:
            sys.exit("an answer that must not be")
        if slowest > SLOWEST:
            sys.exit("an answer took too long")
        if min(whole) < 5 or max(whole) > 10:  # those under way when the store changed have five in each
            sys.exit("attempts are not counted as they must be")


def ask(port: int, method: str, path: str, header: str, body: Any = None) -> tuple[int, Any]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": header} | ({"Content-Type": "application/json"} if body else {})
    try:
        link.request(method, path, body and json.dumps(body), headers)
        answer = link.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        link.close()


def revoked(ports: list[int], admin: str, names: "itertools.count[int]") -> None:
    """Remove one user, demote another, log a third out, by one server; the next request to either is refused."""

    def remove(uid: str, login: str) -> None:
        ask(ports[0], "DELETE", f"/users/{uid}", admin)

    def demote(uid: str, login: str) -> None:
        ask(ports[0], "PATCH", f"/users/{uid}", admin, {"admin": False})

    def leave(uid: str, login: str) -> None:
        ask(ports[0], "DELETE", "/login", basic(login, "a good password"))

    for change in (remove, demote, leave):
        login = f"user-{next(names)}"
        status, text = ask(ports[0], "POST", "/users", admin, {"login": login, "pass": "a good password", "admin": True})
        if status != 201:
            sys.exit(f"a user is not made: {status} {text}")
        uid = text.strip()
        password = basic(login, "a good password")
        token = f"Bearer {json.loads(ask(ports[1], 'GET', '/login', password)[1])}"
        headers = [token, password] if change is remove else [token]
        before = [ask(port, "GET", "/admin", header)[0] for port in ports for header in headers]
        change(uid, login)
        after = [ask(port, "GET", "/admin", header)[0] for port in ports for header in headers]
        if set(before) != {200} or set(after) != {401}:
            sys.exit(f"{change.__name__}: {before} before, {after} after")


def stores(port: int, admin: str) -> Counter[str]:
    """How many attempts each store has counted for a server."""
    text = ask(port, "GET", "/metrics", admin)[1]
    found = re.findall(r'^stuff_attempts_total\{store="(\w+)"\} (\d+)', text, re.MULTILINE)
    return Counter({name: int(number) for name, number in found})


def counts_in(store: str, ports: list[int], admin: str) -> Callable[[], bool]:
    """Whether all attempts of now on are counted in that store."""

    def look() -> bool:
        before = [stores(port, admin) for port in ports]
        time.sleep(0.3)
        return all(set(stores(port, admin) - old) == {store} for port, old in zip(ports, before, strict=True))

    return look


def exact(ports: list[int], login: str) -> None:
    """A storm of guesses at one account by both servers: five are made."""
    statuses: list[int] = []

    def storm(number: int) -> None:
        statuses.extend(ask(ports[(number + turn) % 2], "GET", "/whoami", basic(login, "wrong"))[0] for turn in range(50))

    at_once(storm, 8)
    print(f"400 wrong passwords of {login} at both servers: {dict(Counter(statuses))}")
    if Counter(statuses) != {401: 5, 429: 395}:
        sys.exit("not five")


def periods(conf: dict[str, Any]) -> None:
    """A period ends when it was to, whatever was taken back meanwhile."""
    store = Attempts(conf | {"LOGIN_PERIOD": 3, "REDIS_TIMEOUT": 1.0})
    made = [store.add("moe", "192.0.2.1") for _ in range(3)]
    for _, forget in [*made, made[0]]:
        forget()
    for _ in range(2):
        time.sleep(1.6)
        made.append(store.add("moe", "192.0.2.1"))
    if [(one["pair"], one["wait"]) for one, _ in made] != [(1, 3), (2, 3), (3, 3), (1, 2), (1, 3)]:
        sys.exit(f"a period did not end when it was to: {made}")


@contextmanager
def phase(name: str, guessers: Guessers) -> Iterator[None]:
    began = time.monotonic()
    yield
    guessers.check(name, began)


def main() -> None:
    if not shutil.which("redis-server"):
        sys.exit("redis-server is needed (Debian: apt install redis-server)")
    with workplace() as folder, ExitStack() as stack:
        cluster = Cluster(folder, nodes=1)
        stack.callback(cluster.stop)
        cluster.primary.sql("CREATE DATABASE stuff_test")
        processes: list[Process] = []

        def stop() -> None:
            for process in processes:
                process.signal(signal.SIGKILL)

        stack.callback(stop)

        def add(*arguments: Any, **values: Any) -> Process:
            processes.append(Process(folder, *arguments, **values))
            return processes[-1]

        run = cluster.primary.run
        primary = add(SERVER, run)
        replica = add(SERVER + f"replicaof 127.0.0.1 {primary.port}\n", run)
        sentinels = [add(SENTINEL, run, "--sentinel", primary=primary.port) for _ in range(3)]
        manager = Sentinel(
            [("127.0.0.1", sentinel.port) for sentinel in sentinels],
            min_other_sentinels=2, sentinel_kwargs={"password": OPEN, "socket_timeout": 1}, password=PASSWORD,
        )  # fmt: skip

        def master() -> int:
            """The port of the primary, 0 if there is none."""
            with suppress(RedisError):
                return int(manager.discover_master("main")[1])
            return 0

        wait("sentinels", lambda: master() and manager.discover_replicas("main"))
        settings: dict[str, Any] = {
            "REDIS_URL": f"redis://:{PASSWORD}@main",
            "REDIS_SENTINELS": [f"127.0.0.1:{sentinel.port}" for sentinel in sentinels],
            "REDIS_SENTINEL_PASSWORD": OPEN,
            "PASSWORD_COST": 4,
            "PASSWORD_HASHES": 8,  # all threads: the attempts are looked at, not the place for hashes
            "LOGIN_LIMITS": {"pair": 5, "address": 10**6, "login": 100},
        }
        url = cluster.url("any")
        ports = [stack.enter_context(serving(folder, url, workers=1, threads=8, **settings)) for _ in range(2)]
        admin = f"Bearer {json.loads(ask(ports[0], 'GET', '/login', basic('calvin', 'hobbes'))[1])}"
        periods(settings)
        exact(ports, "hobbes")
        link: Redis = manager.master_for("main")
        numbers = link.get("stuff:attempt:p 127.0.0.1 hobbes"), cluster.primary.sql("TABLE Attempt", dbname="stuff_test")
        if numbers != (b"400", []):
            sys.exit(f"Redis and PostgreSQL have counted {numbers}")
        names = itertools.count()
        with Guessers(ports, admin.removeprefix("Bearer ")) as guessers:
            with phase("all is well", guessers):
                time.sleep(2)
                revoked(ports, admin, names)
            with phase("the primary killed, the replica promoted", guessers):
                before = master()
                killed = time.monotonic()
                next(p for p in (primary, replica) if p.port == before).signal(signal.SIGKILL)
                wait("PostgreSQL counts", lambda: all(stores(port, admin)["postgresql"] for port in ports))
                revoked(ports, admin, names)
                wait("promotion", lambda: master() not in (0, before))
                promoted = time.monotonic()
                wait("Redis counts", counts_in("redis", ports, admin))
                back = time.monotonic()
                print(f"promoted after {promoted - killed:.1f} s, used again {back - promoted:.1f} s later")
                revoked(ports, admin, names)
            with phase("Redis and its sentinels all killed", guessers):
                stop()
                wait("PostgreSQL counts", counts_in("postgresql", ports, admin))
                revoked(ports, admin, names)
                time.sleep(2)
            exact(ports, "susie")
            with phase("all started again", guessers):
                for process in processes:
                    process.start()
                began = time.monotonic()
                wait("Redis counts", counts_in("redis", ports, admin), 30)
                print(f"used again after {time.monotonic() - began:.1f} s")
                time.sleep(1)
            with phase("Redis and its sentinels all frozen", guessers):
                for process in processes:
                    process.signal(signal.SIGSTOP)
                wait("PostgreSQL counts", counts_in("postgresql", ports, admin))
                revoked(ports, admin, names)
                time.sleep(3)
            with phase("thawed", guessers):
                for process in processes:
                    process.signal(signal.SIGCONT)
                wait("Redis counts", counts_in("redis", ports, admin), 30)
                time.sleep(1)
        exact(ports, "root")
        for port in ports:
            text = (folder / f"{port}.log").read_text()
            told = Counter(re.findall("Redis is (away|back)", text))
            print(f"log of one server: {dict(told)}; {sum(stores(port, admin).values())} attempts, {dict(stores(port, admin))}")
            if not 3 <= told["away"] == told["back"] <= 9:
                sys.exit("not a line per outage")
            if PASSWORD in text or OPEN in text or '"stack": "' in text:
                sys.exit("a password or a bug is in the log")


if __name__ == "__main__":
    main()
