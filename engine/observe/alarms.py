"""Errors to people, where configured: by mail, at most one per cause and hour, 30 in all, and to syslog. Imported by observe.

A thread sends the mails, a request never waits for it. What was sent when is kept where the processes of a server share it.
"""

import fcntl
import json
import logging
import logging.handlers
import queue
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from email.message import EmailMessage
from pathlib import Path
from typing import Any

PERIOD = 3600.0  # seconds between two mails for one cause
MOST = 30  # mails in that time, whatever the causes


def cause(record: logging.LogRecord) -> str:
    """What makes two errors the same: where they are logged, in what words before they are filled in, what failed where."""
    parts = [record.name, str(record.msg)]
    if record.exc_info and record.exc_info[0]:
        parts.append(record.exc_info[0].__name__)
        trace = record.exc_info[2]
        while trace and trace.tb_next:
            trace = trace.tb_next
        if trace:
            parts.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
    return " ".join(parts)


class Mail(logging.Handler):
    """Errors by mail.

    :param conf: host, port, from, to (a list); tls: "starttls" (the default), "tls" from the first byte, or "none"; user and
        password to log in; ca: a file of certificates to trust instead of the system's.
    :param told: file in which the processes remember what was sent.
    :param quietly: how to say that a mail could not be sent, without sending mail.
    """

    def __init__(self, conf: dict[str, Any], told: Path, quietly: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self.conf, self.told, self.quietly = conf, told, quietly
        self._recent: dict[str, float] = {}
        self._letters: queue.Queue[EmailMessage] = queue.Queue(100)
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        what = cause(record)
        try:
            if time.time() - self._recent.get(what, 0.0) < PERIOD or self._letters.full() or not self._first(what):
                return
        except (OSError, ValueError):  # no room, or a half-written note: then once too often rather than never
            with suppress(OSError):
                self.told.unlink()
        letter = EmailMessage()
        letter["From"], letter["To"] = self.conf["from"], ", ".join(self.conf["to"])
        letter["Subject"] = f"[stuff] {socket.gethostname()}: {what}"[:200].replace("\n", " ")
        letter.set_content(f"{self.format(record)}\n\nNo other mail is sent for this cause by this server for an hour.\n")
        with suppress(queue.Full):
            self._letters.put_nowait(letter)
        if not (self._thread and self._thread.is_alive()):  # a forked process has none
            self._thread = threading.Thread(target=self._run, name="mail", daemon=True)
            self._thread.start()

    def _first(self, what: str) -> bool:
        """Whether none of the processes has sent it within the hour; then this one will."""
        self._recent[what] = now = time.time()
        with self.told.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            sent = {key: when for key, when in json.loads(file.read() or "{}").items() if now - when < PERIOD}
            if what in sent or len(sent) >= MOST:
                return False
            file.truncate(0)
            file.write(json.dumps(sent | {what: now}))
        return True

    def _run(self) -> None:
        while True:
            self.send(self._letters.get())

    def send(self, letter: EmailMessage) -> None:
        """Hand a letter to the mail server."""
        conf = self.conf
        tls, trust = conf.get("tls", "starttls"), ssl.create_default_context(cafile=conf.get("ca"))
        try:
            with (
                smtplib.SMTP_SSL(conf["host"], conf["port"], timeout=10, context=trust)
                if tls == "tls"
                else smtplib.SMTP(conf["host"], conf["port"], timeout=10)
            ) as server:
                if tls == "starttls":
                    server.starttls(context=trust)
                if conf.get("user"):
                    server.login(conf["user"], conf["password"])
                server.send_message(letter)
        except (OSError, smtplib.SMTPException) as error:
            self.quietly(f"no mail could be sent: {error}")


def syslog(address: Any) -> logging.Handler:
    """Errors to syslog.

    :param address: a socket such as /dev/log, or (host, port).
    """
    handler = logging.handlers.SysLogHandler(address)
    handler.setLevel(logging.ERROR)
    handler.ident = "stuff: "
    return handler
