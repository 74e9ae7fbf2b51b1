"""Request bodies that arrive late, or never, hold few threads: what Granian does not see to. Imported by app.

Granian hands a request over with its headers, and a thread that reads a body which does not come waits until the client goes:
as many clients as there are threads, each sending half a body, would stop the server. So only some threads may read at once,
which takes no time for a body that is there, and what would be one more is refused unread.

NOTE it cannot be given up half-read: to answer while another thread reads, Granian 2.8 waits for that read and keeps the GIL.
A proxy that sends on whole requests makes all this idle.
"""

import io
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Any

from FlaskSimpleAuth import Flask

PATIENCE = 0.1  # seconds to wait for other bodies to be read


class Bodies:
    """A WSGI application in front of another: reads the body (`stuff.read` in the environment), or says why not (`stuff.body`).

    :param most: bytes of a body; more is left to the application to refuse.
    :param readers: bodies that may be read at once.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]], most: int, readers: int) -> None:
        self.application, self.most = application, most
        self._readers: SimpleQueue[None] = SimpleQueue()  # a thing for each that may read; a semaphore is slower
        for _ in range(readers):
            self._readers.put(None)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        length = environ.get("CONTENT_LENGTH") or "0"
        chunked = "HTTP_TRANSFER_ENCODING" in environ
        if chunked or (length.isdigit() and 0 < int(length) <= self.most):
            try:
                self._readers.get(timeout=PATIENCE)
            except Empty:
                environ["stuff.body"], body = 503, b""  # the status of the answer
            else:
                try:
                    body = environ["wsgi.input"].read(self.most + 1 if chunked else int(length))
                finally:
                    self._readers.put(None)
                if len(body) <= self.most:
                    environ["stuff.read"] = body
            environ["wsgi.input"] = io.BytesIO(body)
        return self.application(environ, start_response)


def init_app(app: Flask) -> None:
    """Read bodies before anything else."""
    conf = app.config
    app.wsgi_app = Bodies(app.wsgi_app, conf["MAX_CONTENT_LENGTH"], conf.setdefault("BODY_READERS", 2))
