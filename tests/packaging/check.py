"""Installs the built wheel into a fresh environment and runs a node there, far from the checkout.

`python -m tests.packaging.check dist` is part of `make test`. It fails when a module or data file
is missing from the wheel, when the installed node does not start, answer and stop, or when the
source archive does not give the same wheel.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

READY = re.compile(r"ready udp=\d+ tcp=\d+(,\d+)* key=[0-9A-F]{64}\n")
TIMEOUT_S = 60


def _install(wheel: Path, place: Path) -> Path:
    """Makes an environment with the wheel in it and returns its bin folder."""
    venv.create(place, with_pip=True)
    pip = [str(place / "bin/python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", str(wheel)], check=True)
    return place / "bin"


def _run(program: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the installed command outside the checkout."""
    return subprocess.run(
        [str(program), *arguments],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def _environment() -> dict[str, str]:
    """Leaves out what could let the checkout's modules in."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _expect(good: bool, what: str) -> None:
    if not good:
        raise SystemExit(f"packaging: {what}")


def check(wheel: Path) -> None:
    """Raises SystemExit with a sentence if the wheel does not give a working node."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        program = _install(wheel, folder / "environment") / "toxmesh"
        version = f"toxmesh {wheel.name.split('-')[1]}\n"
        for word in ("--version", "version"):
            done = _run(program, folder, word)
            _expect((done.returncode, done.stdout) == (0, version), done.stdout + done.stderr)
        state = folder / "state"
        node = subprocess.Popen(
            [str(program), "run", "--dev", "--state-dir", str(state)],
            cwd=folder,
            env=_environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            line = node.stdout.readline() if node.stdout else ""
            _expect(READY.fullmatch(line) is not None, f"no ready line, but {line!r}")
            done = _run(program, folder, "ops", "status", "--json", "--state-dir", str(state))
            _expect(done.returncode in (0, 1), f"ops status: {done.returncode} {done.stderr}")
            names = [row["name"] for row in json.loads(done.stdout)["workers"]]
            _expect({"dht.0", "onion.0", "relay.0"} <= set(names), f"workers are {names}")
            node.send_signal(signal.SIGTERM)
            _expect(node.wait(10) == 0, f"the node ended with {node.returncode}")
        finally:
            if node.poll() is None:
                node.kill()
                node.wait()
    print(f"{wheel.name}: installed, started, asked and stopped outside the checkout")


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def check_source(archive: Path, wheel: Path) -> None:
    """Raises SystemExit with a sentence if the source archive gives another wheel."""
    with tempfile.TemporaryDirectory() as temporary:
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
        options = ["--no-deps", "--no-build-isolation", "--wheel-dir", temporary]
        subprocess.run([*pip, *options, str(archive)], check=True)
        made = Path(temporary) / wheel.name
        _expect(made.is_file(), f"{archive.name} gives no {wheel.name}")
        ours, theirs = _contents(wheel), _contents(made)
        other = [name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)]
        _expect(not other, f"{archive.name} gives another wheel: {sorted(other)[:5]}")
    print(f"{archive.name}: gives the same wheel")


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    _expect(len(found) == 1, f"{folder} has {len(found)} of {pattern}, not one")
    return found[0].resolve()


if __name__ == "__main__":
    _folder = Path(sys.argv[1])
    _wheel = _only(_folder, "toxmesh-*.whl")
    check_source(_only(_folder, "toxmesh-*.tar.gz"), _wheel)
    check(_wheel)
