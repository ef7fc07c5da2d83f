"""Leads toxic, the terminal client of Debian, as a person does: keys go in, a screen comes out."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop.nodes import Address
from tests.interop.peers import Peer

NEXT_TAB = "\x10"  # Ctrl-P.  toxic settings.c: key_next_tab
_ROWS, _COLUMNS = 50, 200  # a Tox ID has to fit into a line
_PATIENCE_S = 60.0
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>78])")
_READY = "Welcome to Toxic"
_NEW = "Would you like to encrypt it?"


class Toxic:
    """toxic with a profile of its own; `keys` types, `until` reads the screen."""

    def __init__(
        self, peer: Peer, folder: Path, profile: Path, node: Address | None, *options: str
    ) -> None:
        """Starts it. `folder` is its home; without `node` it stays offline."""
        folder.mkdir(exist_ok=True)
        nodes = folder / "nodes.json"
        nodes.write_text(_nodes(node))
        self._master, slave = pty.openpty()
        size = struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
        command = [str(peer.path), "--ipv4", "--no-lan", "-f", str(profile), "-n", str(nodes)]
        command += [*options, *([] if node is not None else ["--noconnect"])]
        environment = {**peer.environment(), "HOME": str(folder), "TERM": "xterm"}
        environment |= {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._raw = ""
        self._read_to = 0

    @property
    def screen(self) -> str:
        """All that was ever shown, without what moves the cursor or colours."""
        return _ESCAPE.sub("\n", self._raw)

    def keys(self, text: str) -> None:
        """Types."""
        os.write(self._master, text.encode())

    def line(self, text: str) -> None:
        """Types a line, and what is waited for afterwards is looked for behind it alone."""
        self._read_to = len(self.screen)
        self.keys(text + "\r")

    def until(self, *wanted: str, timeout_s: float = _PATIENCE_S) -> str:
        """Waits until one of these texts is on the screen, and returns which."""
        end = time.monotonic() + timeout_s
        while True:
            shown = self.screen[self._read_to :]
            for text in wanted:
                if text in shown:
                    self._read_to += shown.index(text) + len(text)
                    return text
            assert time.monotonic() < end, f"toxic does not say {wanted}: {self.screen[-2000:]}"
            alive = self._read()
            assert alive or self._process.poll() is None, f"toxic ended: {self.screen[-2000:]}"

    def _read(self) -> bool:
        """Takes what toxic shows within a tenth of a second; False at the end."""
        ready, _, _ = select.select([self._master], [], [], 0.1)
        if not ready:
            return True
        try:
            self._raw += os.read(self._master, 1 << 16).decode("utf-8", "replace")
        except OSError:  # Linux says so where nobody holds the other end any more
            return False
        return True

    def tox_id(self) -> str:
        """Asks for the Tox ID."""
        self.line("/myid")
        self.until("/myid")
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            found = re.search(r"\b[0-9A-F]{76}\b", self.screen[self._read_to :])
            if found is not None:
                return found[0]
            self._read()
        raise AssertionError(f"toxic shows no Tox ID: {self.screen[-2000:]}")

    def close(self) -> int:
        """Quits, by which it saves; returns its exit code."""
        self.line("/quit")
        end = time.monotonic() + _PATIENCE_S
        while self._process.poll() is None and time.monotonic() < end:
            self._read()
        return self._process.wait(1)

    def end(self) -> None:
        """Ends it by force, if it runs still."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)


def _nodes(node: Address | None) -> str:
    """Returns a list of nodes as toxic keeps it, young enough not to be fetched anew."""
    now = int(time.time())
    rows = []
    if node is not None:
        row = {"ipv4": node.host, "ipv6": "-", "port": node.udp_port, "tcp_ports": [node.tcp_port]}
        rows.append({**row, "public_key": node.key.hex().upper(), "last_ping": now})
    listed = {"last_scan": now, "last_refresh": now, "nodes": rows}
    return json.dumps(listed, separators=(",", ":"))


@contextmanager
def toxic(
    peer: Peer, folder: Path, profile: Path, node: Address | None = None, passphrase: str = ""
) -> Iterator[Toxic]:
    """Opens a profile in toxic, or has it make one; a block that ends well quits and saves."""
    new = not profile.exists()
    made = Toxic(peer, folder, profile, node)
    try:
        if new:
            made.until(_NEW)
            made.line("y" if passphrase else "n")
            if passphrase:
                made.until("Enter a new password")
                made.line(passphrase)
                made.until("Enter password again")
                made.line(passphrase)
        elif passphrase:
            made.until("Enter password")
            made.line(passphrase)
        made.until(_READY)
        yield made
        assert made.close() == 0
    finally:
        made.end()
