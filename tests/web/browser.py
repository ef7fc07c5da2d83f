"""A real browser without a window, told what to do by its debugging pipe.

Chromium is taken from the system. `python -m tests.web.browser` looks for it and, as root, has apt
install it: it needs a hundred libraries, so that unpacking it beside the tests would be no less.
"""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # it runs as root in CI, and opens one page: ours
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
_INSTALL_S = 600
ANSWER_S = 60.0


class BrowserMissing(Exception):
    """There is no browser; the text says why."""


def find() -> Path:
    """Returns the browser of this machine."""
    for name in NAMES:
        path = shutil.which(name)
        if path is not None:
            return Path(path)
    raise BrowserMissing("no Chromium is installed; make peers installs it where that is allowed")


class Browser:
    """One browser with one page."""

    def __init__(self, program: Path, width: int = 1360, height: int = 1100) -> None:
        self._profile = tempfile.mkdtemp(prefix="toxmesh-browser-")
        to_read, to_write = os.pipe()
        from_read, from_write = os.pipe()
        self._in, self._out = to_write, from_read
        line = [str(program), *_FLAGS, f"--user-data-dir={self._profile}"]
        line += [f"--window-size={width},{height}", "about:blank"]
        far = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in (to_read, from_write)]
        null = os.open(os.devnull, os.O_RDWR)
        self._pid = os.posix_spawn(
            program,
            line,
            dict(os.environ),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, null, 1),
                (os.POSIX_SPAWN_DUP2, null, 2),
                (os.POSIX_SPAWN_DUP2, far[0], 3),
                (os.POSIX_SPAWN_DUP2, far[1], 4),
            ],
            setpgroup=0,
        )
        for fd in (*far, to_read, from_write, null):
            os.close(fd)
        self._numbers = itertools.count(1)
        self._received = b""
        self._session = ""
        self.events: list[dict[str, Any]] = []
        pages = self.ask("Target.getTargets")["targetInfos"]
        page = next(row["targetId"] for row in pages if row["type"] == "page")
        answer = self.ask("Target.attachToTarget", targetId=page, flatten=True)
        self._session = answer["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._in)
        os.close(self._out)
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        shutil.rmtree(self._profile, ignore_errors=True)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Calls a method of the DevTools protocol and returns its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._in, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + ANSWER_S
        while True:
            answer = self._next(end)
            if answer.get("id") != number:
                self.events.append(answer)
                continue
            assert "error" not in answer, answer["error"]
            result: dict[str, Any] = answer["result"]
            return result

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._out], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self._out, 1 << 20) if ready else b""
            assert data, "the browser does not answer"
            self._received += data
        line, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def open(self, address: str) -> None:
        """Opens a page and waits until it is there."""
        self.ask("Page.navigate", url=address)
        self.until(f"location.href == {address!r} && document.readyState == 'complete'")

    def value(self, expression: str) -> Any:
        """Returns what an expression is worth in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = 30.0) -> Any:
        """Waits until an expression is true in the page, and returns what it is worth."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.value(expression)
            if value:
                return value
            select.select([], [], [], 0.1)
        raise AssertionError(f"not within {seconds} s: {expression}")

    def dark(self, on: bool) -> None:
        """Tells pages whether a person wants them dark."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> bytes:
        """Writes what the window shows, as PNG, and returns it."""
        answer = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        data = base64.b64decode(answer["data"])
        path.write_bytes(data)
        return data

    def said(self, method: str) -> list[dict[str, Any]]:
        """Returns the parameters of all events with this name so far."""
        return [row["params"] for row in self.events if row.get("method") == method]

    def complaints(self) -> list[str]:
        """Returns what went wrong in the page: exceptions, errors of the console, refused parts."""
        found = [str(row["exceptionDetails"]) for row in self.said("Runtime.exceptionThrown")]
        found += [
            str(row["args"])
            for row in self.said("Runtime.consoleAPICalled")
            if row["type"] in ("error", "warning", "assert")
        ]
        found += [
            row["entry"]["text"]
            for row in self.said("Log.entryAdded")
            if row["entry"]["level"] in ("error", "warning")
        ]
        return found

    def requested(self) -> list[str]:
        """Returns the address of everything that the page asked for."""
        return [row["request"]["url"] for row in self.said("Network.requestWillBeSent")]


def main() -> int:
    """Looks for a browser, and has it installed where that is allowed; 1 if there is none."""
    try:
        print(f"browser: {find()}")
        return 0
    except BrowserMissing as missing:
        if os.geteuid() or shutil.which("apt-get") is None:
            print(f"browser: {missing}")
            return 1
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for line in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        subprocess.run(
            ["apt-get", "-q", *line],
            env=environment,
            stdout=subprocess.DEVNULL,
            timeout=_INSTALL_S,
            check=False,
        )
    try:
        print(f"browser: {find()}")
    except BrowserMissing as missing:
        print(f"browser: {missing}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
