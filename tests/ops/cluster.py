"""A PostgreSQL of several nodes on this machine, the server in front of it, and clients that remember what they were told.

Used by the checks of this folder, run by make. The programs come from the same wheel as the embedded PostgreSQL.
"""

import base64
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from engine import embedded  # noqa: E402  # the checkout is no package

NODE = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
port = {port}
max_connections = 80
shared_buffers = 32MB
wal_level = replica
hot_standby = on
wal_retrieve_retry_interval = 100ms
wal_receiver_timeout = 2s
max_wal_size = 256MB
log_line_prefix = '%m [%a] '
"""


def free_port() -> int:
    """Below the range from which the system takes ports for clients."""
    return next(p for p in random.sample(range(20000, 32000), 999) if socket.socket().connect_ex(("127.0.0.1", p)))


def wait(what: str, done: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(psycopg.Error, OSError, LookupError):
            if found := done():
                return found
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not within {seconds} s")
        time.sleep(0.02)


class Node:
    """One PostgreSQL server."""

    def __init__(self, folder: Path, name: str, programs: Path) -> None:
        self.folder, self.name, self.programs, self.port = folder / name, name, programs, free_port()
        self.url = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres connect_timeout=2"
        self.run: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        self.run["env"] = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        if os.geteuid() == 0:
            self.run |= {"user": folder.stat().st_uid, "group": folder.stat().st_gid, "extra_groups": []}

    def command(self, program: str, *arguments: Any, **run: Any) -> None:
        path = self.programs / program
        subprocess.run([path if path.exists() else program, *map(str, arguments)], check=True, **self.run | run)

    def configure(self, text: str) -> None:
        with (self.folder / "postgresql.auto.conf").open("a") as file:
            file.write(text)

    def start(self) -> None:
        for _ in range(50):  # the memory of a killed server lingers for a moment
            with suppress(subprocess.CalledProcessError):
                start = ("-D", self.folder, "-l", f"{self.folder}.log", "-s", "-w", "start")
                return self.command("pg_ctl", *start, stderr=subprocess.DEVNULL)
            time.sleep(0.1)
        raise SystemExit(f"{self.name} does not start, see {self.folder}.log")

    def sql(self, statement: str, *values: Any, dbname: str = "postgres") -> list[Any]:
        with psycopg.connect(self.url, dbname=dbname, autocommit=True, application_name="check") as link:
            cursor = link.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def stored(self, dbname: str = "stuff_test") -> set[str]:
        """What is stored, to compare with what was acknowledged."""
        return {row[0] for row in self.sql("SELECT stuff FROM Stuff", dbname=dbname)}

    def processes(self) -> list[int]:
        """Those of this server: the one named in its lock, and its children."""
        try:
            main = int((self.folder / "postmaster.pid").read_text().split()[0])
            task = Path(f"/proc/{main}/task/{main}/children").read_text()
        except (OSError, IndexError):
            return []
        return [main, *map(int, task.split())]

    def signal(self, number: int, all_: bool = True) -> None:
        for pid in self.processes()[: None if all_ else 1]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)


class Cluster:
    """A primary and its standbys, streaming; a commit waits for any one of them."""

    def __init__(self, folder: Path, nodes: int = 3) -> None:
        programs = embedded.programs(folder)
        self.nodes = [Node(folder, f"n{i}", programs) for i in range(1, nodes + 1)]
        self.hosts = ",".join("127.0.0.1" for _ in self.nodes)
        self.ports = ",".join(str(node.port) for node in self.nodes)
        self.primary, *self.standbys = self.nodes
        first = self.primary
        first.command("initdb", "-D", first.folder, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        first.configure(NODE.format(port=first.port))
        first.start()
        for node in self.standbys:
            self.follow(node)
        if self.standbys:
            self.synchronous()

    def url(self, target: str = "read-write") -> str:
        return f"host={self.hosts} port={self.ports} user=postgres dbname=stuff_test target_session_attrs={target}"

    def synchronous(self) -> None:
        names = ",".join(node.name for node in self.nodes if node is not self.primary)
        self.primary.sql(f"ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 ({names})'")
        self.primary.sql("SELECT pg_reload_conf()")
        self.streaming(len(self.standbys))

    def streaming(self, count: int = 1) -> None:
        statement = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        wait("streaming", lambda: self.primary.sql(statement)[0][0] >= count)

    def follow(self, node: Node) -> None:
        """Make a node a standby, from a new copy of the primary."""
        shutil.rmtree(node.folder, ignore_errors=True)
        node.command("pg_basebackup", "-D", node.folder, "-d", self.primary.url, "-c", "fast", "-X", "stream")
        (node.folder / "standby.signal").touch()
        source = f"host={self.hosts} port={self.ports} user=postgres target_session_attrs=read-write connect_timeout=2"
        names = ",".join(other.name for other in self.nodes if other is not node)  # for when it is promoted
        node.configure(
            NODE.format(port=node.port)
            + f"primary_conninfo = '{source} application_name={node.name}'\n"
            + f"synchronous_standby_names = 'ANY 1 ({names})'\n"
        )
        node.start()

    def lost(self) -> bool:
        """Whether the primary does not answer, by its own word within a second."""
        try:
            with socket.create_connection(("127.0.0.1", self.primary.port), 1) as door:
                door.settimeout(0.3)
                door.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
                return door.recv(1) == b""
        except OSError:
            return True

    def failover(self) -> float:
        """What the agent of a real cluster does: see that the primary is gone, fence it, promote the standby that has most.

        :returns: when the new primary was one, in the seconds of `time.monotonic()`.
        """
        misses = 0
        while misses < 3:
            misses = misses + 1 if self.lost() else 0
            time.sleep(0.1)
        self.primary.stop()  # the fence
        where = "SELECT pg_last_wal_receive_lsn() - '0/0'"
        best = max(self.standbys, key=lambda node: node.sql(where)[0][0])
        best.sql("SELECT pg_promote()")
        now = time.monotonic()
        old, self.primary = self.primary, best
        self.standbys = [node for node in self.nodes if node not in (old, best)]
        return now

    def rejoin(self) -> None:
        """Bring those back that are neither primary nor standby."""
        for node in self.nodes:
            if node is not self.primary and node not in self.standbys:
                self.follow(node)
                self.standbys.append(node)
        self.streaming(len(self.standbys))

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for servers, removed at the end; also when the check is ended by a signal."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="stuff-check-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
    folder.chmod(0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


SERVERS: dict[str, dict[str, str]] = {}  # the environment of each server


def restart(name: str) -> None:
    """Stop a server, start it again."""
    for script in ("stop.sh", "start.sh"):
        subprocess.run([ROOT / script], check=True, env=SERVERS[name], stdout=subprocess.DEVNULL)


@contextmanager
def serving(
    folder: Path,
    url: str,
    workers: int = 2,
    threads: int = 4,
    name: str = "",
    place: tuple[str, int] | None = None,
    **settings: Any,
) -> Iterator[int]:
    """The server, by start.sh, on a database; its port. The settings replace those of app.conf."""
    host, port = place or ("127.0.0.1", free_port())
    name = name or str(port)
    own = folder / name
    conf = Path(f"{own}.conf")
    conf.write_text(f"exec(open({str(ROOT / 'app.conf')!r}).read())\n" + "".join(f"{k} = {v!r}\n" for k, v in settings.items()))
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    environ |= {"DATABASE_URL": url, "HOST": host, "PORT": str(port), "KEEP_DB": "1", "WORKERS": str(workers)}
    environ |= {"THREADS": str(threads), "APP_PID": f"{own}.pid", "APP_LOG": f"{own}.log"}
    environ["APP_CONFIG"] = str(conf)
    SERVERS[name] = environ
    try:
        subprocess.run([ROOT / "start.sh"], check=True, env=environ, stdout=subprocess.DEVNULL)
        yield port
    finally:
        subprocess.run([ROOT / "stop.sh"], check=True, env=environ, stdout=subprocess.DEVNULL)


@dataclass
class Answer:
    """What a client was told, and when."""

    method: str
    text: str
    began: float
    ended: float
    status: int  # 0: no answer at all
    retry: str | None
    code: str

    @property
    def took(self) -> float:
        return self.ended - self.began


class Threads:
    """Something done in so many threads for the time of a block, at the end of which `over` is set and they are waited for."""

    def __init__(self, what: Callable[[int], None], number: int) -> None:
        self.over = threading.Event()
        self._threads = [threading.Thread(target=what, args=[i]) for i in range(number)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()


def at_once(what: Callable[[int], None], number: int) -> None:
    """Do something in so many threads, until all are done."""
    with Threads(what, number):
        pass


@dataclass
class Load(Threads):
    """Clients, each with its connection: of three, two write and one reads."""

    port: int
    clients: int = 9
    pause: float = 0.005
    host: str = "127.0.0.1"
    answers: list[Answer] = field(default_factory=list)
    name: str = field(default_factory=lambda: os.urandom(6).hex())

    def __post_init__(self) -> None:
        super().__init__(self._client, self.clients)

    def _client(self, number: int) -> None:
        link, count = http.client.HTTPConnection(self.host, self.port, timeout=15), 0
        while not self.over.wait(self.pause):
            count += 1
            text = f"{self.name}-{number}-{count}"
            answer = ask(link, "GET" if number % 3 == 2 else "POST", text)
            self.answers.append(answer)  # to the list of now: the soak takes it away
        link.close()

    def since(self, when: float) -> list[Answer]:
        return [answer for answer in self.answers if answer.began >= when]

    def acknowledged(self) -> set[str]:
        return {answer.text for answer in self.answers if answer.method == "POST" and answer.status == 201}


def basic(login: str, password: str) -> str:
    """The Authorization of Basic authentication."""
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()


TLS = {"X-Forwarded-Proto": "https"}  # what a proxy says that ended it; believed where there is one (TRUSTED_PROXIES)


def ask(link: http.client.HTTPConnection, method: str, text: str) -> Answer:
    """One request: a new stuff, or reading the first."""
    began, status, retry, code = time.monotonic(), 0, None, ""
    try:
        if method == "POST":
            link.request(method, "/stuff", json.dumps({"stuff": text}), TLS | {"Content-Type": "application/json"})
        else:
            link.request(method, "/stuff/1", headers=TLS)
        response = link.getresponse()
        body = json.loads(response.read())
        status, retry, code = response.status, response.getheader("Retry-After"), body.get("code", "")
    except (OSError, http.client.HTTPException, ValueError) as error:
        code = repr(error)
        link.close()
    return Answer(method, text, began, time.monotonic(), status, retry, code)


def ask_once(port: int, method: str, text: str) -> Answer:
    """The same by a client that does no more."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        return ask(link, method, text)
    finally:
        link.close()


def summary(answers: list[Answer]) -> str:
    counts = Counter(f"{a.method} {a.status} {a.code}".strip() for a in answers)
    return ", ".join(f"{count} x {name}" for name, count in sorted(counts.items()))
