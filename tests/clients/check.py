"""Tools and clients that nobody here wrote, against a server: `make check.clients` (needs npm, java, chromium).

Linters judge the document with the rules that they bring. Clients are generated from it, compiled, and used. What they are
installed from, package.json and requirements.txt, names versions; they are installed in a temporary folder, which is removed.

usage: check.py URL [PART...]
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# requests of the Postman import that a fresh server must refuse, and why; all others succeed
REFUSED = {
    ("POST", "password"): 400,  # it sends the password of another user
    ("POST", "users"): 409,  # registered by then
    ("POST", "users-mgt"): 409,
    ("DELETE", "users"): 404,  # a key out of the air
    ("GET", "docs"): 404,  # a file out of the air
}


# rules of IBM's validator that are not ours; --ruleset would name them, but fails in 1.38.4 ("not an object")
HOUSE = {
    "ibm-no-array-responses": "a list is an array",
    "ibm-path-segment-casing-convention": "paths have the names that the contract gives them",
    "ibm-property-casing-convention": "so have members",
    "ibm-no-consecutive-path-parameter-segments": "/owned/<uid>/<oid> is one of these paths",
    "ibm-enum-casing-convention": "a descending order is the column behind a minus, as in JSON:API",
    "ibm-schema-type-format": 'it knows no format beyond OpenAPI 3.0\'s, nor the type "null" of 3.1',
    "ibm-required-array-properties-in-response": "`errors` of a Problem is there only where fields are at fault",
    "ibm-accept-and-return-models": "the answer of /openapi.json is any OpenAPI document",
}


class Place:
    """A temporary folder with the tools in it, and the document of the server.

    :param url: of the server.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        shutil.copytree(HERE, folder, dirs_exist_ok=True)
        with urllib.request.urlopen(f"{url}/openapi.json", timeout=10) as answer:
            (folder / "openapi.json").write_bytes(answer.read())
        path = f"{folder / 'py' / 'bin'}:{folder / 'node_modules' / '.bin'}:{os.environ['PATH']}"
        self.env = os.environ | {"PATH": path, "BASE": url, "PYTHONPATH": str(folder / "generated")}

    def run(self, *command: str, fails: bool = False) -> str:
        """What a command printed.

        :param fails: it may exit with an error, having printed a report.
        :raises RuntimeError: it failed.
        """
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=300)
        if done.returncode and not fails:
            raise RuntimeError(f"{' '.join(command)}: {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        return done.stdout

    def install(self) -> None:
        """Install what package.json and requirements.txt name."""
        self.run("npm", "install", "--no-audit", "--no-fund", "--loglevel=error")
        venv.create(self.folder / "py", with_pip=True)
        self.run("pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt")


def spectral(place: Place) -> None:
    """Spectral, its own rules for OpenAPI, warnings included."""
    place.run("spectral", "lint", "--fail-severity=hint", "-r", "spectral.yaml", "openapi.json")


def redocly(place: Place) -> None:
    """Redocly, its recommended rules; a warning is a fault."""
    found = json.loads(place.run("redocly", "lint", "--extends=recommended", "--format=json", "openapi.json"))
    if found["totals"]["errors"] or found["totals"]["warnings"]:
        raise RuntimeError(json.dumps(found["problems"], indent=1)[:4000])


def ibm(place: Place) -> None:
    """IBM's validator, errors alone, but for the rules that HOUSE names with a reason."""
    report = json.loads(place.run("lint-openapi", "--json", "openapi.json", fails=True))
    faults = [one for one in report["error"]["results"] if one["rule"] not in HOUSE]
    if faults:
        raise RuntimeError("\n".join(f"{one['rule']}: {one['message']} at {one['path']}" for one in faults))


def typescript(place: Place) -> None:
    """openapi-typescript with openapi-fetch, and orval with fetch and zod."""
    place.run("openapi-typescript", "openapi.json", "-o", "schema.d.ts")
    place.run("orval", "--config", "orval.config.cjs")
    place.run("tsc", "-p", ".")
    place.run("node", "built/fetch.js")
    place.run("node", "built/orval.js")


def python(place: Place) -> None:
    """openapi-python-client."""
    place.run(
        "openapi-python-client", "generate", "--path", "openapi.json", "--output-path", "python_client_made", "--meta", "none"
    )
    # NOTE 0.29.1 forgets this import where a body has two media types and nothing else is optional
    for path in (place.folder / "python_client_made" / "api").glob("*/*.py"):
        text = path.read_text()
        if "Unset = UNSET" in text and "Response, Unset" not in text:
            path.write_text(text.replace("import UNSET, Response", "import UNSET, Response, Unset"))
    place.run("python", "-m", "compileall", "-q", "python_client_made")
    place.run("python", "python_client.py")


def generator(place: Place) -> None:
    """openapi-generator, its Python client."""
    names = "packageName=generator_made"
    place.run(
        "openapi-generator-cli",
        "generate",
        "-g",
        "python",
        "-i",
        "openapi.json",
        "-o",
        "generated",
        "--additional-properties",
        names,
    )
    place.run("python", "generator_client.py")


def models(place: Place) -> None:
    """datamodel-code-generator."""
    kinds = ("--input-file-type", "openapi", "--output-model-type", "pydantic_v2.BaseModel")
    place.run("datamodel-codegen", "--input", "openapi.json", "--output", "models_made.py", *kinds)
    place.run("python", "models_client.py")


def requests(items: list[Any]) -> list[Any]:
    """The requests of a Postman collection, but for the log-out, which would end the token that the others send."""
    found = []
    for item in items:
        found += requests(item["item"]) if "item" in item else [item]
    return [one for one in found if (one["request"]["method"], one["request"]["url"]["path"]) != ("DELETE", ["login"])]


def postman(place: Place) -> None:
    """The document imported into Postman, and run by newman."""
    options = "parametersResolution=Example,requestParametersResolution=Example"
    place.run("openapi2postmanv2", "-s", "openapi.json", "-o", "postman.json", "-O", options)
    file = place.folder / "postman.json"
    collection = json.loads(file.read_text())
    file.write_text(json.dumps(collection | {"item": requests(collection["item"])}))
    form = urllib.parse.urlencode({"login": "calvin", "pword": "hobbes"}).encode()
    with urllib.request.urlopen(f"{place.url}/login", form, timeout=10) as answer:
        token = json.load(answer)
    known = {"baseUrl": place.url, "bearerToken": token, "basicAuthUsername": "calvin", "basicAuthPassword": "hobbes"}
    given = [part for name, value in known.items() for part in ("--env-var", f"{name}={value}")]
    place.run("newman", "run", "postman.json", *given, "-r", "json", "--reporter-json-export", "newman.json")
    faults, good = [], 0
    for one in json.loads((place.folder / "newman.json").read_text())["run"]["executions"]:
        method, path = one["item"]["request"]["method"], one["item"]["request"]["url"]["path"]
        status = one.get("response", {}).get("code", 0)
        expected = (
            403 if path[0] == "owned" and path[1:] else REFUSED.get((method, path[0]))
        )  # the examples are objects of hobbes
        good += 200 <= status < 400
        if not 200 <= status < 400 and status != expected:
            faults.append(f"{method} /{'/'.join(path)}: {status}")
    if faults:
        raise RuntimeError("\n".join(faults))
    print(f"  {good} requests of the import succeed")


def browser(place: Place) -> None:
    """Chromium: lists after a change, pages of another origin, /docs used, and axe on it."""
    place.run("node", "browser.mjs")


PARTS: list[Callable[[Place], None]] = [
    spectral,
    redocly,
    ibm,
    typescript,
    python,
    generator,
    models,
    browser,
    postman,
]  # the last removes rows


def main(url: str, *names: str) -> None:
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        place = Place(url, Path(folder))
        place.install()
        for part in PARTS:
            if not names or part.__name__ in names:
                print(f"{part.__name__}: {(part.__doc__ or '').splitlines()[0]}", flush=True)
                try:
                    part(place)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    failed.append(part.__name__)
                    print(f"  FAILED: {error}", flush=True)
    sys.exit(f"failed: {' '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
