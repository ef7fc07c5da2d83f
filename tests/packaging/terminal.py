"""A terminal that tests type into, with a program in it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_CONTROL = re.compile(r"\x1b\[[0-9;?>=]*[a-zA-Z]|\x1b[=>()][0-9A-B]?|\x1b\][^\x07]*\x07|[\x07\x08]")


class Terminal:
    """A pseudo-terminal; `screen` is all that was printed, without control sequences."""

    def __init__(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        folder: Path,
        kind: str = "dumb",
        size: tuple[int, int] | None = None,
    ) -> None:
        """`kind`: as in $TERM; `size`: lines and columns."""
        self._master, slave = pty.openpty()
        if size is not None:
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self._process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment, "TERM": kind},
            cwd=folder,
            start_new_session=True,
        )
        os.close(slave)
        self.screen = ""

    def enter(self, text: str) -> None:
        """Types and forgets what was on the screen before."""
        self.screen = ""
        os.write(self._master, text.encode())

    def wait_for(self, pattern: str, seconds: float = 20.0) -> str:
        """Waits until the screen has what `pattern` finds; AssertionError when time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if re.search(pattern, self.screen):
                return self.screen
            ready, _, _ = select.select([self._master], [], [], 0.1)
            if ready:
                try:
                    data = os.read(self._master, 1 << 16)
                except OSError:
                    break
                self.screen = _CONTROL.sub("", self.screen + data.decode(errors="replace"))
        raise AssertionError(f"no {pattern!r} on the screen: {self.screen!r}")

    def settle(self, seconds: float = 0.2) -> None:
        """Waits until nothing more is printed for that long, so that the program reads again."""
        while select.select([self._master], [], [], seconds)[0]:
            os.read(self._master, 1 << 16)

    def ended(self, seconds: float = 20.0) -> int:
        """Takes what is still printed, and returns the exit code."""
        end = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < end:
            if select.select([self._master], [], [], 0.1)[0]:
                with suppress(OSError):  # it has let go of its end
                    os.read(self._master, 1 << 16)
        return self._process.wait(0.1)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._master)
