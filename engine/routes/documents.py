"""What the server says of its own interface: the OpenAPI document, and its page for people."""

from pathlib import Path
from typing import Any

from flask import current_app
from FlaskSimpleAuth import Blueprint, Response, err

from engine.db.statement import Json
from engine.http.wire import declare, sent

documents = Blueprint("documents", __name__)

FOLDER = Path(__file__).parent.parent / "openapi" / "viewer"
PAGE = (FOLDER / "index.html").read_bytes()
KINDS = {"css": "text/css", "js": "text/javascript", "png": "image/png"}
FILES = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix[1:] in KINDS}
# nothing from elsewhere, no inline script or style, no eval; data: is for the icons in the viewer's own style sheet
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


# GET /openapi.json: for programs
@documents.get("/openapi.json", authorize="OPEN")
@declare(database=False)
def get_openapi() -> dict[str, Any]:
    """Describe the interface, in OpenAPI 3.1."""
    return Json(current_app.extensions["contract"].text)  # type: ignore[return-value]


# GET /docs: for people
@documents.get("/docs", authorize="OPEN")
@declare(produces=("text/html",), database=False)
def get_docs() -> Response:
    """Show the interface as a page, to log in and try it out."""
    return sent(PAGE, "text/html", Content_Security_Policy=POLICY)


# GET /docs/<file>: what the page is made of
@documents.get("/docs/<path:file>", authorize="OPEN")
@declare(produces=tuple(KINDS.values()), database=False)
def get_docs_file(file: str) -> Response:
    """Send a file of that page."""
    if file not in FILES:
        err("object not found", 404)
    return sent(FILES[file], KINDS[file.rpartition(".")[2]])
