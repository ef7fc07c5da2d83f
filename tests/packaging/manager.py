"""Plays the service manager for tests: hands sockets over, listens to sd_notify, sends signals."""

import fcntl
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

_HAND_OVER = """
import os, sys
came = [int(text) for text in sys.argv[1].split(",") if text]
rest = sys.argv[2:]
for index, fd in enumerate(came):  # systemd's are 3, 4, ...; ours came from far above
    os.dup2(fd, 3 + index)
if came:
    os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(rest[0], rest)
"""

_FAR = 100  # first number the sockets come with: more than systemd ever hands over here


class Manager:
    """One service, started the way systemd does it."""

    def __init__(self, folder: Path, watchdog_s: float = 0.0) -> None:
        self.address = str(folder / "notify")
        self.heard: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self._watchdog_s = watchdog_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)

    def start(
        self,
        command: Sequence[str],
        sockets: Sequence[socket.socket] = (),
        names: str = "",
        environment: dict[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        """Starts the service with NOTIFY_SOCKET, WATCHDOG_USEC and LISTEN_FDS."""
        variables = {**os.environ, **(environment or {}), "NOTIFY_SOCKET": self.address}
        if self._watchdog_s:
            variables["WATCHDOG_USEC"] = str(int(self._watchdog_s * 1e6))
        if sockets:
            variables |= {"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names}
        fds = [fcntl.fcntl(row.fileno(), fcntl.F_DUPFD_CLOEXEC, _FAR) for row in sockets]
        try:
            self.process = subprocess.Popen(
                ["/usr/bin/env", "python3", "-c", _HAND_OVER, ",".join(map(str, fds)), *command],
                env=variables,
                cwd=folder,
                pass_fds=fds,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            for fd in fds:
                os.close(fd)

    def wait_for(self, start: str, seconds: float = 30.0) -> str:
        """Returns the next datagram that begins so; AssertionError if none comes in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ready, _, _ = select.select([self._socket], [], [], 0.1)
            if ready:
                said = self._socket.recv(4096).decode()
                self.heard.append(said)
                if said.startswith(start):
                    return said
            elif self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"it ended: {self.process.communicate()}")
        raise AssertionError(f"no {start!r} in {seconds} s, but {self.heard}")

    def signal(self, number: signal.Signals) -> None:
        """Sends the service's main process a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> tuple[int, str, str]:
        """Stops the service as systemd does and returns its exit code, output and log."""
        assert self.process is not None
        self.process.terminate()
        out, err = self.process.communicate(timeout=10)
        return self.process.returncode, out, err

    def __enter__(self) -> "Manager":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self._socket.close()
