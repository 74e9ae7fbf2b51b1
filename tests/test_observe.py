"""What people see of requests: slow ones with queries and plans, timings, profiles, traces, mails, syslog."""

import json
import logging
import queue
import re
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import EXTERNAL, bearer

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change settings for a test."""
    from app import app

    def change(**settings: Any) -> None:
        for name, value in settings.items():
            monkeypatch.setitem(app.config, name, value)

    return change


@pytest.fixture
def instance() -> Any:
    """The DB behind the `db` of the routes."""
    from database import db

    return db.open.__self__


def lines(capsys: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == event]


@pytest.mark.internal
def test_a_slow_request_is_logged_with_its_queries(client: Any, capsys: Any, configured: Any) -> None:
    client.post("/stuff", 201, json={"stuff": "quick"})
    assert lines(capsys, "slow request") == []
    configured(SLOW_REQUEST=0.0)
    client.post("/stuff", 201, json={"stuff": "Lamp"})
    (line,) = lines(capsys, "slow request")
    assert (line["level"], line["route"], line["status"]) == ("WARNING", "/stuff", 201)
    assert [name for name, _ in line["queries"]] == ["add_stuff", "commit"]


@pytest.mark.internal
def test_a_slow_query_is_logged_by_name_and_with_its_plan(
    client: Any, instance: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance, "_slow", 0.0)
    client.get("/stuff/1", 200)
    assert re.search(r"slow query get_stuff_sid: \d+ ms, backends \[\d+\]", caplog.text)
    assert "Scan" not in caplog.text
    monkeypatch.setattr(instance, "_plans", True)
    for _ in range(2):
        client.get("/stuff/1", 200)
        client.post("/stuff", json={"stuff": "Lamp"})
    assert len(re.findall("plan of get_stuff_sid:\n.*Scan", caplog.text)) == 1
    assert len(re.findall("plan of add_stuff:\nInsert", caplog.text)) == 1


@pytest.mark.internal
def test_a_plan_that_cannot_be_had_harms_nobody(
    client: Any, instance: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.problem import Problem

    def refuse(*_: Any) -> None:
        raise Problem(503)

    monkeypatch.setattr(instance, "_slow", 0.0)
    monkeypatch.setattr(instance, "_plans", True)
    monkeypatch.setattr(instance, "_planned", {})
    monkeypatch.setattr(instance, "plan", refuse)
    client.get("/stuff/1", 200)
    assert "no plan of get_stuff_sid" in caplog.text


@pytest.mark.internal
def test_server_timing_names_each_query(client: Any, configured: Any) -> None:
    assert "Server-Timing" not in client.get("/stuff/1", 200).headers
    configured(SERVER_TIMING=True)
    timing = client.get("/stuff/1", 200).headers["Server-Timing"]
    assert re.fullmatch(r"get_stuff_sid;dur=[0-9.]+, total;dur=[0-9.]+", timing)
    assert re.fullmatch(r"total;dur=[0-9.]+", client.get("/live", 200).headers["Server-Timing"])
    client.get("/stuff/1", 200)
    refused = client.get("/stuff/1", 406, headers={"Accept": "text/css"})  # nor those of the request before
    assert re.fullmatch(r"total;dur=[0-9.]+", refused.headers["Server-Timing"])


@pytest.mark.internal
def test_who_is_nobody_any_more_is_not_named(client: Any, sql: Any, capsys: Any, hobbes: dict[str, str]) -> None:
    token = bearer(client.get("/login", 200, headers=hobbes).json)
    client.get("/whoami", 200, headers=token)
    sql("UPDATE Utilisateur SET epoch = epoch + 1 WHERE login = 'hobbes'")
    client.get("/whoami", 401, headers=token)
    assert [(line["login"], line["status"]) for line in lines(capsys, "request")][-2:] == [("hobbes", 200), (None, 401)]


@pytest.mark.internal
def test_a_profile_is_for_administrators_of_instances_that_allow_it(
    client: Any, capsys: Any, configured: Any, calvin: dict[str, str], hobbes: dict[str, str]
) -> None:
    ask = {"X-Profile": "1"}
    configured(PROFILING=False)
    client.get("/whoami", 200, headers=calvin | ask)
    configured(PROFILING=True)
    client.get("/whoami", 200, headers=hobbes | ask)
    client.get("/stuff", 200, headers=ask)
    client.get("/whoami", 200, headers=calvin)
    client.get("/stuff", 200, headers=hobbes | ask)
    assert lines(capsys, "profile") == []
    client.get("/stuff", 200, headers=calvin | ask | {"X-Request-Id": "open"})
    assert [line["id"] for line in lines(capsys, "profile")] == ["open"]
    client.get("/users", 200, headers=calvin | ask | {"X-Request-Id": "profiled"})
    (line,) = lines(capsys, "profile")
    assert line["id"] == "profiled"
    assert "get_users" in line["profile"]


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", "01"),
        (f"00-{TRACE}-00f067aa0ba902b7-00", "00"),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-x", "01"),
    ],
)
def test_a_trace_is_continued(client: Any, capfd: Any, header: str, sampled: str) -> None:
    response = client.get("/stuff/1", 200, headers={"traceparent": header})
    assert re.fullmatch(f"00-{TRACE}-(?!00f067aa0ba902b7)[0-9a-f]{{16}}-{sampled}", response.headers["traceresponse"])
    if not EXTERNAL:
        assert f'"trace":"{TRACE}"' in capfd.readouterr().err


@pytest.mark.parametrize(
    "header",
    ["", "x", f"00-{TRACE}-00f067aa0ba902b7", f"00-{TRACE}-00f067aa0ba902b7-01-x", f"ff-{TRACE}-00f067aa0ba902b7-01",
     f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-00f067aa0ba902b7-01"],
)  # fmt: skip
def test_a_malformed_trace_is_no_trace(client: Any, header: str) -> None:
    assert "traceresponse" not in client.get("/stuff/1", 200, headers={"traceparent": header}).headers


# a collector


@pytest.fixture
def collector() -> Iterator[tuple[str, "queue.Queue[Any]"]]:
    """An HTTP server that keeps what it is sent: its address, and that."""
    sent: queue.Queue[Any] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", sent
        server.shutdown()


@pytest.mark.internal
def test_spans_reach_a_collector(client: Any, collector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from app import app
    from engine.observe import tracing

    monkeypatch.setattr(tracing, "PERIOD", 0.05)
    exporter = tracing.Exporter(collector[0], 1.0, {"service.name": "stuff"})
    monkeypatch.setitem(app.extensions, "exporter", exporter)
    client.get("/stuff/1", 200, headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "X-Request-Id": "find-me"})
    client.get("/stuff/1", 200, headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-00"})  # not sampled
    client.get("/nope", 404)
    spans: list[dict[str, Any]] = []
    while len(spans) < 3:
        (resource,) = collector[1].get(timeout=10)["resourceSpans"]
        assert resource["resource"]["attributes"] == [{"key": "service.name", "value": {"stringValue": "stuff"}}]
        spans += resource["scopeSpans"][0]["spans"]
    request, query, other = spans
    assert (request["traceId"], request["parentSpanId"], request["name"]) == (TRACE, "00f067aa0ba902b7", request["name"])
    assert request["name"].startswith("GET /stuff/<")
    assert {"key": "http.response.status_code", "value": {"intValue": "200"}} in request["attributes"]
    assert {"key": "stuff.request_id", "value": {"stringValue": "find-me"}} in request["attributes"]
    assert (query["name"], query["traceId"], query["parentSpanId"]) == ("get_stuff_sid", TRACE, request["spanId"])
    assert int(request["startTimeUnixNano"]) <= int(query["startTimeUnixNano"]) <= int(query["endTimeUnixNano"])
    assert abs(int(request["endTimeUnixNano"]) / 1e9 - time.time()) < 60
    assert other["name"] == "GET"
    assert "parentSpanId" not in other
    assert other["traceId"] != TRACE


@pytest.mark.internal
def test_spans_that_no_collector_takes_are_dropped(caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.observe import tracing

    exporter = tracing.Exporter("http://127.0.0.1:1/", 0.0, {})
    assert exporter.begin() is None
    exporter._thread = threading.current_thread()
    exporter.add(tracing.Trace("a", None, "b", True), "x", 0.0, [], **{"http.response.status_code": 500})
    assert exporter._waiting[0]["status"] == {"code": 2}
    exporter.export()
    exporter.export()
    assert caplog.text.count("1 spans not exported") == 1
    exporter._forked()
    assert exporter._thread is None


# mail and syslog


class Smtp(socketserver.StreamRequestHandler):
    """A mail server that speaks enough of RFC 5321, STARTTLS and AUTH PLAIN, and keeps what it gets."""

    def say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self) -> None:
        server: Any = self.server
        self.secured = server.implicit
        if server.implicit:
            self.secure()
        self.say("220 mail.test")
        while line := self.rfile.readline().strip().decode():
            word = line.split(" ")[0].upper()
            if word == "EHLO":
                self.say("250-mail.test\r\n250 " + ("AUTH PLAIN" if self.secured else "STARTTLS"))
            elif word == "STARTTLS":
                self.say("220 go on")
                self.secure()
            elif word == "AUTH":
                server.got.put(("login", line.split(" ")[2], self.secured))
                self.say("235 welcome")
            elif word == "DATA":
                self.say("354 end with a dot")
                letter = b"".join(iter(self.rfile.readline, b".\r\n")).decode()
                server.got.put(("letter", letter, self.secured))
                self.say("250 taken")
            elif word == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 well")

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def secure(self) -> None:
        server: Any = self.server
        self.request = server.context.wrap_socket(self.request, server_side=True)
        self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb", 0)
        self.secured = True


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for localhost, with its key in the same file."""
    path = tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", path.with_suffix(".key"), "-out", path,
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + path.with_suffix(".key").read_text())
    return path


@pytest.fixture(params=["starttls", "tls"])
def post(request: Any, certificate: Path) -> Iterator[tuple[dict[str, Any], "queue.Queue[Any]"]]:
    """A mail server: how to reach it, and what it got."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        got: queue.Queue[Any] = queue.Queue()
        vars(server).update(context=context, got=got, implicit=request.param == "tls")
        threading.Thread(target=server.serve_forever).start()
        conf = {"host": "127.0.0.1", "port": server.server_address[1], "tls": request.param, "ca": str(certificate)}
        yield conf | {"from": "stuff@test", "to": ["a@test", "b@test"], "user": "me", "password": "secret"}, got
        server.shutdown()


@pytest.mark.internal
def test_an_error_is_mailed_once_an_hour_by_whichever_process(
    client: Any, post: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.db import database
    from engine.observe import alarms, observe

    def bug(*_: Any) -> None:
        raise ZeroDivisionError("find me")

    conf, got = post
    root, said = logging.getLogger(), list[str]()
    one, two = (alarms.Mail(conf, tmp_path / "told", said.append) for _ in range(2))
    monkeypatch.setattr(root, "handlers", [one, two])
    for handler in root.handlers:
        handler.setFormatter(observe.Formatter())
        handler.addFilter(observe.ours)
    monkeypatch.setattr(database.DB, "execute", bug)
    for _ in range(3):
        client.get("/stuff/1", 500, headers={"X-Request-Id": "of-the-first"})
    assert got.get(timeout=10) == ("login", "AG1lAHNlY3JldA==", True)
    kind, letter, secured = got.get(timeout=10)
    assert (kind, secured) == ("letter", True)
    for expected in ("To: a@test, b@test", "bug on %s %s: %r ZeroDivisionError", "id: of-the-first", "find me", "Traceback"):
        assert expected in letter
    logging.getLogger("stuff").error("another cause")
    logging.getLogger("stuff").warning("no error")
    assert "another cause" in [got.get(timeout=10) for _ in range(2)][1][1]
    assert got.empty()
    monkeypatch.setattr(alarms, "PERIOD", 0.0)  # an hour later
    root.removeHandler(two)
    logging.getLogger("stuff").error("another cause")
    assert "another cause" in [got.get(timeout=10) for _ in range(2)][1][1]
    assert said == []


@pytest.mark.internal
@pytest.mark.parametrize("note", ["{", None])
def test_what_is_noted_of_mails_may_be_spoilt(post: Any, tmp_path: Path, note: str | None) -> None:
    from engine.observe import alarms

    conf, got = post
    told = tmp_path / "told" if note else tmp_path / "gone" / "told"
    if note:
        told.write_text(note)
    record = logging.LogRecord("stuff", logging.ERROR, __file__, 1, "spoilt", None, None)
    alarms.Mail(conf, told, pytest.fail).emit(record)
    got.get(timeout=10)
    assert got.get(timeout=10)[0] == "letter"


@pytest.mark.internal
def test_a_mail_server_that_is_away_or_not_itself_harms_nobody(post: Any, tmp_path: Path) -> None:
    from engine.observe import alarms

    conf, got = post
    said: list[str] = []
    letter = EmailMessage()
    for wrong in ({"host": "127.0.0.1", "port": 1}, {"ca": None}):
        alarms.Mail(conf | wrong, tmp_path / "told", said.append).send(letter)
    assert len(said) == 2
    assert "certificate verify failed" in said[1]
    assert got.empty()


@pytest.mark.internal
def test_a_login_is_not_needed_where_none_is_configured(post: Any, tmp_path: Path) -> None:
    from engine.observe import alarms

    conf, got = post
    letter = EmailMessage()
    letter["From"], letter["To"] = "a@test", "b@test"
    alarms.Mail(conf | {"user": None}, tmp_path / "told", pytest.fail).send(letter)
    assert got.get(timeout=10)[0] == "letter"


@pytest.mark.internal
def test_errors_go_to_syslog(tmp_path: Path) -> None:
    from engine.observe import alarms

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        handler = alarms.syslog(str(tmp_path / "log"))
        logger = logging.Logger("x")
        logger.addHandler(handler)
        logger.warning("no error")
        logger.error("an error")
        assert log.recv(999).endswith(b"stuff: an error\0")
        handler.close()


@pytest.mark.internal
def test_a_cause_is_told_by_where_it_is_not_by_its_values() -> None:
    from engine.observe.alarms import cause

    def record(message: str, *values: Any, error: BaseException | None = None) -> logging.LogRecord:
        found = (type(error), error, error.__traceback__) if error else None
        return logging.LogRecord("stuff", logging.ERROR, "x.py", 1, message, values, found)

    assert cause(record("no %s", 1)) == cause(record("no %s", 2)) != cause(record("nothing"))
    assert cause(record("no", error=ValueError())) == "stuff no ValueError"


@pytest.mark.internal
def test_mail_and_syslog_are_connected_where_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    from FlaskSimpleAuth import Flask

    from app import app
    from engine.observe import observe

    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    other = Flask("other")
    other.config.update(app.config | {"MAIL": {"host": "x"}, "SYSLOG": ("127.0.0.1", 9), "TRACES": "http://127.0.0.1:1"})
    observe.init_app(other)
    assert [type(handler).__name__ for handler in root.handlers] == ["Handler", "Mail", "SysLogHandler"]
    assert other.extensions["exporter"].ratio == 1.0
    root.handlers[2].close()


# the database's own log


def test_a_transaction_carries_the_id_of_its_request(client: Any, sql: Any) -> None:
    sql("CREATE TABLE Seen(name TEXT)")
    sql("CREATE FUNCTION see() RETURNS TRIGGER LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO Seen VALUES (current_setting('application_name')); RETURN NEW; END $$")  # fmt: skip
    sql("CREATE TRIGGER see BEFORE INSERT ON Stuff FOR EACH ROW EXECUTE FUNCTION see()")
    try:
        client.post("/stuff", 201, json={"stuff": "Lamp"}, headers={"X-Request-Id": "abc"})
        client.post("/stuff", 201, json={"stuff": "Torch"}, headers={"X-Request-Id": "a" * 64})
        assert sql("SELECT name FROM Seen ORDER BY length(name)") == [("stuff abc",), (f"stuff {'a' * 57}",)]
    finally:
        sql("DROP FUNCTION see CASCADE")
        sql("DROP TABLE Seen")
    names = {row[0] for row in sql("SELECT application_name FROM pg_stat_activity WHERE datname = current_database()")}
    assert not [name for name in names if "abc" in name]


@pytest.mark.internal
def test_a_message_that_is_no_text_is_logged_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("stuff").warning("odd %s", "\ud800\n")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "odd \ud800\n"


# what is in the log


@pytest.mark.internal
def test_of_a_long_path_the_beginning_is_logged_and_nothing_remembered(client: Any, capsys: Any) -> None:
    from app import app

    path = "/stuff/" + "1" * 5000
    client.get(path, 404)
    (line,) = lines(capsys, "request")
    assert line["path"] == path[:256] + "..."
    assert not [known for _, known in getattr(app, "known", ()) if len(known) > 200]


@pytest.mark.internal
@pytest.mark.parametrize("sign", ["\x9b", "\u202e", "\u2028"])
def test_a_log_line_holds_no_control_or_format_character(capsys: Any, sign: str) -> None:
    from engine.observe import observe

    observe.write("INFO", "request", {"path": f"/é{sign}"})
    text = capsys.readouterr().err
    assert sign not in text
    assert json.loads(text)["path"] == f"/é{sign}"
    assert observe.readable("INFO", "request", {"path": f"/é{sign}", "login": None}).startswith(
        f"INFO request path=/é{ascii(sign)[1:-1]}"
    )


@pytest.mark.internal
def test_on_a_terminal_a_value_forges_no_line_and_no_field() -> None:
    from engine.observe import observe

    line = observe.readable("INFO", "request", {"path": "/x\nINFO request path=/admin", "status": 404})
    assert line == 'INFO request path="/x\\\\nINFO request path=/admin" status=404'


@pytest.mark.internal
def test_a_bug_is_logged_once_with_its_stack_below_and_its_id_beside(
    client: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.db import database
    from engine.observe import observe

    def bug(*_: Any) -> None:
        raise ZeroDivisionError("find me\n{}")

    monkeypatch.setattr(database.DB, "execute", bug)
    handlers = logging.getLogger().handlers[:]
    monkeypatch.setattr(logging.getLogger(), "handlers", [observe.Handler()])
    for plain in (True, False):
        monkeypatch.setattr(observe, "plain", plain)
        client.get("/stuff/1", 500, headers={"X-Request-Id": "of-the-bug"})
        told = capsys.readouterr().err.splitlines()
        (line,) = [json.loads(line) for line in told if '"ERROR"' in line]
        assert line["id"] == "of-the-bug"
        stack = [line for line in told if line.startswith("  ")]
        assert ("Traceback" in line.get("stack", "")) is not plain
        assert stack[:1] == (["  Traceback (most recent call last):"] if plain else [])
        assert all(line.startswith(("{", "  ")) for line in told)
    logging.getLogger().handlers = handlers


@pytest.mark.internal
def test_in_debug_mode_a_bug_is_the_debugger_s(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from app import app
    from engine.db import database

    def bug(*_: Any) -> None:
        raise ZeroDivisionError("find me")

    monkeypatch.setattr(database.DB, "execute", bug)
    monkeypatch.setattr(app, "debug", True)
    with pytest.raises(ZeroDivisionError) as raised:
        client.get("/stuff/1", headers={"X-Request-Id": "of-the-bug"})
    assert raised.value.__notes__ == ["request id: of-the-bug"]


@pytest.mark.internal
@pytest.mark.parametrize("logger", ["fsa", "werkzeug"])
def test_what_we_log_libraries_do_not_log_again(client: Any, logger: str, capsys: Any) -> None:
    from engine.observe import observe

    def record(message: Any) -> logging.LogRecord:
        return logging.LogRecord(logger, logging.ERROR, __file__, 1, message, ("GET / HTTP/1.1", 200, "-"), None)

    assert not observe.told_once(record(ValueError("a bug")))
    assert not observe.told_once(record('127.0.0.1 - - [now] "%s" %s %s'))
    assert observe.told_once(record("something else"))
    assert observe.told_once in logging.getLogger(logger).filters


@pytest.mark.internal
def test_a_request_that_starts_over_keeps_its_id() -> None:
    from app import app
    from engine.http.request import here
    from engine.observe.observe import start

    with app.test_request_context("/stuff"):
        start()
        first = here().request_id, here().started
        start()
        assert (here().request_id, here().started) == first
