"""A command on a screen of its own: a pseudo-terminal, keys that are pressed, text it shows."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
_CONTROL = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>])")


class Terminal:
    """One run of `toxmesh` on a screen of 40 lines."""

    def __init__(self, *arguments: object, columns: int = 160, kind: str = "xterm") -> None:
        self.pid, self._end = pty.fork()
        if self.pid == 0:  # pragma: no cover: the child is another program at once
            os.environ.update({"TERM": kind, "PYTHONPATH": str(CHECKOUT)})
            words = [sys.executable, "-m", "toxmesh", *map(str, arguments)]
            os.execv(sys.executable, words)
        size = struct.pack("HHHH", 40, columns, 0, 0)
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, size)
        self._seen = ""

    def press(self, keys: str) -> None:
        """Presses keys, and forgets what was shown before."""
        self._seen = ""
        os.write(self._end, keys.encode())

    def shows(self, text: str, seconds: float = 20.0) -> bool:
        """Waits until a text was written; screens write what changes, so it may be a part."""
        end = time.monotonic() + seconds
        while text not in self._seen and time.monotonic() < end:
            if select.select([self._end], [], [], 0.1)[0]:
                try:
                    part = os.read(self._end, 1 << 16)
                except OSError:  # the command has ended
                    break
                self._seen = _CONTROL.sub("", self._seen + part.decode("utf-8", "replace"))
        return text in self._seen

    def ended(self, seconds: float = 20.0) -> int:
        """Returns the exit code."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self._end], [], [], 0.1)[0]:
                try:
                    os.read(self._end, 1 << 16)
                except OSError:
                    break
        _, status = os.waitpid(self.pid, 0)
        os.close(self._end)
        return os.waitstatus_to_exitcode(status)
