"""The lock against tomorrow: beside the index lies version 99 of every locked package, and set-up must not take one.

`make check.lock`. The Makefile's own targets are run in an empty virtual environment, dry (pip reads PIP_DRY_RUN and writes
PIP_REPORT), once with Debian 12's pip and once with the latest. pip 23 looks up a requirement with an extra past the pin of
its package: without --no-deps, set-up broke on the day that a newer one came out.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parents[2]
PIPS = ["pip==23.0.1", "pip"]  # Debian 12's, and the latest
TARGETS = {  # of the Makefile, and the lock of each; `make run` needs the first, `make check` the first two
    "venv/.run": "requirements.txt",
    "venv/.dev": "requirements-dev.txt",
    "venv/.redis": "requirements-redis.txt",
}
EXTRAS = ["toml", "binary", "c", "pool", "password", "crypto", "async", "dotenv", "email", "hiredis", "pname", "reload"]


def pins(*files: str) -> dict[str, str]:
    """Name and version of all that the files of a lock name for this Python and platform."""
    lines = [line for file in files for line in (HERE / file).read_text().splitlines() if re.match(r"[\w.-]+==", line)]
    wanted = [Requirement(line.rstrip(" \\")) for line in lines]
    return {
        canonicalize_name(one.name): str(one.specifier).removeprefix("==")
        for one in wanted
        if one.marker is None or one.marker.evaluate()
    }


def bait(folder: Path, name: str) -> None:
    """Write a wheel of version 99: no code, whatever extra is asked for, for every platform."""
    stem = f"{name.replace('-', '_')}-99"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 99", *(f"Provides-Extra: {extra}" for extra in EXTRAS)]
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}.dist-info/RECORD", "")


def run(*command: str, cwd: Path, **settings: str) -> str:
    """Run a command to its end; its output."""
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(command, cwd=cwd, env=env | settings, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{done.stdout}\nFAILED: {' '.join(command)}")
    return done.stdout


def chosen(report: Path) -> dict[str, str]:
    """Name and version of what pip would install, as it reports."""
    items = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    return {canonicalize_name(one["name"]): one["version"] for one in items}


def main() -> None:
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        clone, baits, report = Path(folder, "clone"), Path(folder, "99"), Path(folder, "report.json")
        for path in (clone, baits):
            path.mkdir()
        for file in ("Makefile", *TARGETS.values()):
            shutil.copy(HERE / file, clone)
        for name in {name for file in TARGETS.values() for name in re.findall(r"(?m)^([\w.-]+)==", (HERE / file).read_text())}:
            bait(baits, name)
        tomorrow = {"PIP_FIND_LINKS": f"{baits} {os.environ.get('PIP_FIND_LINKS', '')}"}
        dry = tomorrow | {"PIP_DRY_RUN": "1", "PIP_REPORT": str(report)}
        for pip in PIPS:
            shutil.rmtree(clone / "venv", ignore_errors=True)
            run(sys.executable, "-m", "venv", "venv", cwd=clone)
            run("venv/bin/python", "-m", "pip", "install", "--upgrade", pip, cwd=clone)
            version = run("venv/bin/python", "-m", "pip", "--version", cwd=clone).split()[1]
            run("venv/bin/python", "-m", "pip", "install", "--no-deps", "coverage[toml]", cwd=clone, **dry)
            if chosen(report) != {"coverage": "99"}:
                sys.exit("the bait is not taken by who asks for the latest: this check would see nothing")
            for target, file in TARGETS.items():
                run("make", "--no-print-directory", target, cwd=clone, **dry)
                wrong = set(chosen(report).items()) ^ set(pins(file).items())
                print(f"pip {version}, make {target}: {len(pins(file))} packages, ", end="")
                print(f"NOT the lock: {sorted(wrong)}" if wrong else "exactly the lock")
                failed |= bool(wrong)
    sys.exit(failed)


if __name__ == "__main__":
    main()
