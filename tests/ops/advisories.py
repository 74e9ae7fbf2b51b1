"""Known faults of what is locked, from a file of advisories: `make advisories FILE=...`. Asks no network.

FILE has advisories in the OSV format (https://ossf.github.io/osv-schema): a zip or a folder of JSON files, as OSV exports
them (https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip), or one JSON file with one, a list, or {"vulns": [...]}.
Ends with 0 if none of them is about a locked version, 1 if one is, 2 if it could not look.
"""

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lock import TARGETS, pins
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version


def texts(path: Path) -> Iterator[str]:
    """The JSON documents of a zip, a folder or a file."""
    if path.is_dir():
        yield from (file.read_text() for file in path.rglob("*.json"))
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name).decode() for name in archive.namelist() if name.endswith(".json"))
    else:
        yield path.read_text()


def advisories(path: Path) -> Iterator[dict[str, Any]]:
    """All that hold still."""
    for text in texts(path):
        found = json.loads(text)
        found = found.get("vulns", [found]) if isinstance(found, dict) else found
        yield from (one for one in found if "id" in one and "withdrawn" not in one)


def within(version: Version, events: list[dict[str, str]]) -> bool:
    """Is a version in a range of the schema: an event that it has reached begins or ends what is affected."""
    inside = False
    for event in events:
        ((kind, text),) = event.items()
        bound = Version("0" if text == "0" else text)
        if kind == "introduced" and version >= bound:
            inside = True
        elif (kind == "fixed" and version >= bound) or (kind == "last_affected" and version > bound):
            inside = False
    return inside


def affects(affected: dict[str, Any], locked: dict[str, str]) -> str | None:
    """The locked package that this part of an advisory is about, if its version is."""
    package = affected.get("package", {})
    name = canonicalize_name(package.get("name", ""))
    if package.get("ecosystem") != "PyPI" or name not in locked:
        return None
    version = Version(locked[name])
    ranges = [one["events"] for one in affected.get("ranges", ()) if one["type"] != "GIT"]
    try:
        hit = locked[name] in affected.get("versions", ()) or any(within(version, events) for events in ranges)
    except InvalidVersion:
        hit = True  # which versions cannot be told: let somebody look
    return f"{name} {version}" if hit else None


def main() -> int:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if path is None or not path.exists():
        print(f"could not look: {f'there is no {path}' if path else 'no FILE=... of advisories is given'}, see docs/lock.md")
        return 2
    locked = pins(*TARGETS.values())
    number, newest, hits = 0, "", {}
    try:
        for one in advisories(path):
            number, newest = number + 1, max(newest, one.get("modified", ""))
            for affected in one.get("affected", ()):
                if about := affects(affected, locked):
                    hits[one["id"]] = f"{about}: {one['id']} {one.get('summary') or one.get('details', '')[:100]}".strip()
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        print(f"could not look: {path} is not in the OSV format: {type(error).__name__}: {error}")
        return 2
    if not number:
        print(f"could not look: {path} holds no advisory")
        return 2
    print(*hits.values(), sep="\n", end="\n" if hits else "")
    print(f"{len(locked)} locked packages, {number} advisories, the newest of {newest or 'no date'}: {len(hits)} apply")
    return 1 if hits else 0


if __name__ == "__main__":
    sys.exit(main())
