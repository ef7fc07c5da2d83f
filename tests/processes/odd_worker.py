"""A worker whose module does what it is told by datagrams: fail, die, or talk too much.

`python -m tests.processes.odd_worker run STATE_DIR PORT DISPATCH` runs a node of such workers;
`python -m tests.processes.odd_worker ROLE` is one of them.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from core.crypto import KeyPair
from core.endpoint import Endpoint
from core.entropy import SystemEntropy
from core.messages import Candidate, Message
from core.module import Context, ProtocolViolation
from core.wire import WireError
from workers.desk import Desk
from workers.host import main

ORDER = 41  # where in a datagram of kind 00 the order stands
TOLD = 10_000


class OddModule:
    """Echoes, and does what the datagram says."""

    def __init__(self, context: Context) -> None:
        self.out = context.out
        self._shard = context.shard
        self._heard = 0
        self._in_order = True
        self._last = -1

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Obeys."""
        order = packet[ORDER:].rstrip(b"\0")
        if order == b"bug":
            raise ValueError("an odd order")
        if order == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        if order == b"wire":
            raise WireError("Odd", "is odd")
        if order == b"rule":
            raise ProtocolViolation("odd_rule")
        if order == b"tell":
            for i in range(TOLD):
                self.out.tell_shard("dht", 1, Candidate(i.to_bytes(4, "big"), b""))
        self.out.send(source, packet)

    def handle_message(self, message: Message, now: float) -> None:
        """Counts, slowly."""
        if isinstance(message, Candidate):
            number = int.from_bytes(message.key, "big")
            self._in_order &= number > self._last
            self._last = number
            self._heard += 1
            if self._heard % 100 == 0:
                time.sleep(0.005)  # busy

    def handle_timer(self, now: float) -> None:
        """Has nothing to do."""

    def next_timer(self) -> float | None:
        """Has no timers."""
        return None

    def snapshot(self) -> dict[str, Any]:
        """Tells what was heard."""
        return {"heard": self._heard, "in_order": self._in_order, "raw": b"\x01"}


def create(context: Context, desk: Desk) -> OddModule:
    """Makes the module."""
    return OddModule(context)


def command(role: str) -> list[str]:
    """Starts our workers in place of the real ones."""
    if role == "broker":
        return [sys.executable, "-P", "-m", "broker"]
    return [sys.executable, "-P", "-m", "tests.processes.odd_worker", role]


def run(state_dir: str, port: str, dispatch: str) -> int:
    """Runs a node of two odd workers."""
    from core.link import logs
    from toxmesh import sockets, supervisor, surroundings
    from toxmesh.life import Life
    from toxmesh.settings import Settings

    Path(state_dir).mkdir(exist_ok=True)
    settings = Settings(
        state_dir=Path(state_dir),
        listen=("127.0.0.1",),
        udp_port=int(port),
        tcp_ports=(),
        lan_discovery=False,
        workers={"dht": 2},
        dispatch=dispatch,
        dev=True,
    )
    keys = KeyPair.generate(SystemEntropy())
    surroundings.raise_limits()
    logs.start_logging(settings.log_level, settings.log_format)
    bound = sockets.bind(settings.listen, settings.udp_port, settings.tcp_ports)
    life = Life.new(settings)
    return supervisor.Supervisor(settings, keys, bound, life, command=command).run()


if __name__ == "__main__":
    if sys.argv[1] == "run":
        sys.exit(run(sys.argv[2], sys.argv[3], sys.argv[4]))
    sys.exit(main(sys.argv[1], create))
