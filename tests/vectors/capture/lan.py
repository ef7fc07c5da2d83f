"""Captures tox-bootstrapd's LAN discovery: `python -m tests.vectors.capture.lan`.

It needs an interface with a broadcast address; a network namespace with one of the kind `dummy`
keeps the broadcast from everybody else.
"""

import socket
import subprocess
import tempfile
from pathlib import Path

from core.packets.dht import LanDiscovery
from tests.interop import peers
from tests.interop.driver import free_port
from tests.interop.nodes import new_keys
from tests.vectors.capture.recorder import Book

MADE_BY = "tox-bootstrapd 0.2.18"
_LAN_PORT = 33445  # c-toxcore tox.h: TOX_DEFAULT_PORT_RANGE_START
_TIMEOUT_S = 30  # the daemon repeats it each 10 s

_CONFIG = """
port = {port}
keys_file_path = "{folder}/keys"
pid_file_path = "{folder}/pid"
enable_ipv6 = false
enable_lan_discovery = true
enable_tcp_relay = false
enable_motd = false
"""


def main() -> None:
    """Starts a daemon and waits for its broadcast."""
    book, keys, peer = Book(), new_keys(), peers.bootstrapd()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener,
        tempfile.TemporaryDirectory() as folder,
    ):
        listener.bind(("", _LAN_PORT))
        listener.settimeout(_TIMEOUT_S)
        (Path(folder) / "keys").write_bytes(keys.public + keys.secret.reveal())
        config = Path(folder) / "config"
        config.write_text(_CONFIG.format(port=free_port(), folder=folder))
        command = [str(peer.path), "--foreground", "--log-backend=stdout", f"--config={config}"]
        process = subprocess.Popen(
            command, env=peer.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        try:
            data = b""
            while not data.startswith(b"\x21"):
                data = listener.recv(2048)
        finally:
            process.terminate()
            process.wait()
    assert LanDiscovery.decode(data).sender == keys.public
    book.keep(LanDiscovery, data, MADE_BY)
    book.save()


if __name__ == "__main__":
    main()
