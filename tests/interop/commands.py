"""Runs `toxmesh` commands that go online, as processes, and reads what they say."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

from tests.interop.driver import wait_until
from tests.interop.nodes import Node, watch
from tests.interop.peers import CHECKOUT

_END_S = 20.0


def online(node: Node, *, udp: bool = True) -> tuple[str, ...]:
    """Returns the options by which a command goes through the one node of a test."""
    at = f"{node.host}:%d:{node.key.hex()}"
    words = ("--bootstrap", at % node.udp_port, "--relay", at % node.tcp_port)
    return (*words, "--listen", node.host, *(("--udp-port", "0") if udp else ("--no-udp",)))


def identity(state: Path, *words: str) -> str:
    """Runs a `toxmesh identity` that does not go online, and returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "toxmesh", "identity", *words, "--state-dir", str(state)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Command:
    """A running `toxmesh WORDS`, and the lines it has said on stdout and stderr."""

    def __init__(self, state: Path, *words: str, stderr: int | None = None) -> None:
        """`stderr`: a terminal that gets what it says there."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "toxmesh", *words, "--state-dir", str(state)],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if stderr is None else stderr,
            text=True,
        )
        self.said = watch(self._process)

    def ends_input(self) -> None:
        """Says that there is nothing more, as Ctrl-D does."""
        cast(IO[str], self._process.stdin).close()

    def types(self, line: str) -> None:
        """Gives it a line."""
        pipe = cast(IO[str], self._process.stdin)
        pipe.write(line + "\n")
        pipe.flush()

    def find(self, pattern: str) -> list[re.Match[str]]:
        """Returns the lines that match as a whole."""
        found = (re.fullmatch(pattern, line) for line in list(self.said))
        return [match for match in found if match is not None]

    def says(self, pattern: str, timeout_s: float = 60.0) -> re.Match[str]:
        """Waits for a line that matches, and returns the last one."""
        wait_until(
            lambda: bool(self.find(pattern)) or self._process.poll() is not None,
            f"a line {pattern} of {self.said[-20:]}",
            timeout_s,
            poll_s=0.05,
        )
        found = self.find(pattern)
        assert found, f"it ended with {self._process.wait()}: {self.said[-20:]}"
        return found[-1]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code."""
        self._process.send_signal(number)
        return self.wait()

    def wait(self, timeout_s: float = _END_S) -> int:
        """Returns the exit code when it has ended by itself."""
        return self._process.wait(timeout_s)

    def end(self) -> None:
        """Ends it by force, if it runs still."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        cast(IO[str], self._process.stdin).close()
        print("it said:\n  " + "\n  ".join(self.said[-30:]))
