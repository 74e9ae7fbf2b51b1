"""What the server says of its own interface: the OpenAPI document, its page for people, and the console made of it."""

import gzip
from pathlib import Path
from typing import Any

from flask import current_app
from FlaskSimpleAuth import Blueprint, Response, err

from engine.http.wire import declare, sent

documents = Blueprint("documents", __name__)

KINDS = {"css": "text/css", "js": "text/javascript", "png": "image/png", "svg": "image/svg+xml"}


Packed = tuple[bytes, bytes]  # as it is, and in gzip


def _folder(name: str) -> tuple[Packed, dict[str, Packed]]:
    """A page, and the files that it is made of."""
    folder = Path(__file__).parent.parent / "openapi" / name
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix[1:] in {*KINDS, "html"}}
    packed = {name: (body, gzip.compress(body, 6, mtime=0)) for name, body in files.items()}
    return packed.pop("index.html"), packed


PAGE, FILES = _folder("viewer")
CONSOLE, CONSOLE_FILES = _folder("console")
# nothing from elsewhere, no inline script or style, no eval; data: is for the icons in the viewer's own style sheet
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# nor may a text ever become markup or script
STRICT = POLICY.replace(" data:", "") + "; require-trusted-types-for 'script'; trusted-types 'none'"


# GET /openapi.json: for programs
@documents.get("/openapi.json", authorize="OPEN")
@declare(database=False)
def get_openapi() -> dict[str, Any]:
    """Describe the interface, in OpenAPI 3.1."""
    contract = current_app.extensions["contract"]
    return sent(contract.text, contract.packed, "application/json")


# GET /docs: for people
@documents.get("/docs", authorize="OPEN")
@declare(produces=("text/html",), database=False)
def get_docs() -> Response:
    """Show the interface as a page, to log in and try it out."""
    return sent(*PAGE, "text/html", Content_Security_Policy=POLICY)


# GET /docs/<file>: what the page is made of
@documents.get("/docs/<path:file>", authorize="OPEN")
@declare(produces=tuple(KINDS.values()), database=False)
def get_docs_file(file: str) -> Response:
    """Send a file of that page."""
    return _file(FILES, file)


# GET /console: for people, to work with
@documents.get("/console", authorize="OPEN")
@declare(produces=("text/html",), database=False)
def get_console() -> Response:
    """Show the resources as pages, to read and change them."""
    return sent(*CONSOLE, "text/html", Content_Security_Policy=STRICT, Referrer_Policy="no-referrer")


# GET /console/<file>: what the page is made of
@documents.get("/console/<path:file>", authorize="OPEN")
@declare(produces=tuple(KINDS.values()), database=False)
def get_console_file(file: str) -> Response:
    """Send a file of the console."""
    return _file(CONSOLE_FILES, file)


def _file(files: dict[str, Packed], name: str) -> Response:
    if name not in files:
        err("object not found", 404)
    return sent(*files[name], KINDS[name.rpartition(".")[2]])
