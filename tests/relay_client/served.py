"""An in-memory relay behind a real listening socket, and pools with real sockets."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from core.crypto import KeyPair, PublicKey
from core.endpoint import Endpoint, from_text
from core.entropy import SystemEntropy
from core.relay_client import Proxy, RelayPool
from tests.relay.joined import HOME, Joined
from toxmesh.identity.dialer import AsyncDialer

_STEP_S = 0.005
PATIENCE_S = 30.0


async def until(done: Callable[[], bool], what: str) -> None:
    """Waits until something is so."""
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE_S
    while not done():
        if loop.time() > end:
            raise AssertionError(f"{what}: not in {PATIENCE_S} s")
        await asyncio.sleep(_STEP_S)


@asynccontextmanager
async def relay_at(host: str = "127.0.0.1") -> AsyncIterator[tuple[Joined, Endpoint]]:
    """Runs a relay that listens on loopback; yields it and its address."""
    loop = asyncio.get_running_loop()
    relay = Joined()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family)
    listener.setblocking(False)
    place = from_text(host, listener.getsockname()[1])

    def admit() -> None:
        theirs, _ = listener.accept()
        theirs.setblocking(False)
        relay.tcp.admit(theirs, HOME, relay.now)

    async def serve() -> None:
        start = loop.time()
        while True:
            relay.now = 1000.0 + loop.time() - start
            relay.run()
            await asyncio.sleep(_STEP_S)

    loop.add_reader(listener, admit)
    task = loop.create_task(serve())
    try:
        yield relay, place
    finally:
        loop.remove_reader(listener)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.close()


class Member:
    """A pool with real sockets, whose timers the loop calls."""

    def __init__(self, proxy: Proxy | None = None, standing: int = 3) -> None:
        self.loop = asyncio.get_running_loop()
        self.keys = KeyPair.generate(SystemEntropy())
        self.key = self.keys.public
        self.drops: Counter[str] = Counter()
        self.data: list[bytes] = []
        self.oob: list[tuple[PublicKey, PublicKey, bytes]] = []
        self.onion: list[bytes] = []
        self.dialer = AsyncDialer(self.loop)
        self.pool = RelayPool(
            self.keys,
            SystemEntropy(),
            self.dialer,
            self,
            self.drops,
            self.loop.time(),
            proxy,
            standing,
        )
        self.dialer.listener = self.pool
        self.timers = self.loop.create_task(self._run())

    async def _run(self) -> None:
        while True:
            due = self.pool.next_timer()
            if due is not None and due <= self.loop.time():
                self.pool.handle_timer(self.loop.time())
            await asyncio.sleep(_STEP_S)

    @property
    def now(self) -> float:
        return self.loop.time()

    def relay_data(self, dht_key: PublicKey, data: bytes, now: float) -> None:
        self.data.append(data)

    def relay_oob(self, relay_key: PublicKey, dht_key: PublicKey, data: bytes, now: float) -> None:
        self.oob.append((relay_key, dht_key, data))

    def relay_onion(self, relay_key: PublicKey, data: bytes, now: float) -> None:
        self.onion.append(data)

    def relay_link(self, dht_key: PublicKey, linked: bool, now: float) -> None:
        """Tests ask the pool."""

    def relay_connected(self, connected: bool, now: float) -> None:
        """Tests ask the pool."""

    def troubles(self) -> list[str]:
        """Returns why its relays failed."""
        return [row.trouble for row in self.pool.status() if row.trouble]

    async def close(self) -> None:
        self.timers.cancel()
        await asyncio.gather(self.timers, return_exceptions=True)
        self.dialer.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def members(
    count: int, proxy: Proxy | None = None, standing: int = 3
) -> AsyncIterator[list[Member]]:
    """Yields pools that are closed in the end."""
    made = [Member(proxy, standing) for _ in range(count)]
    try:
        yield made
    finally:
        for member in made:
            await member.close()


def meet(one: Member, other: Member, place: Endpoint, key: PublicKey) -> None:
    """Lets two members want each other by a relay."""
    for member, peer in ((one, other), (other, one)):
        member.pool.add_peer(peer.key, member.now)
        member.pool.add_relay_of(peer.key, place, key, member.now)
