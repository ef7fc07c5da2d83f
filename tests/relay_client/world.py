"""Pools of relays and in-memory relays between them, with made-up time."""

import socket
from collections import Counter
from collections.abc import Callable

from core.crypto import KeyPair, PublicKey
from core.endpoint import Endpoint, from_text
from core.entropy import SeededEntropy
from core.relay_client import Proxy, RelayPool, Target
from tests.relay.joined import HOME, Joined

START = 1000.0


class Plug:
    """Our end of one connection to an in-memory relay; `pull` is what `Joined.run` calls."""

    def __init__(self, party: "Party", line: int, ours: socket.socket) -> None:
        self.party = party
        self.line = line
        self.socket = ours
        self.blocked = False
        self.closed = False

    def pull(self) -> int:
        """Gives the pool what the relay has sent; returns the bytes that moved."""
        if self.blocked:
            self.blocked = False
            self.party.pool.handle_writable(self.line, self.party.now)
        size = 0
        while not self.closed:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            if not data:
                self.close()
                self.party.pool.handle_closed(self.line, self.party.now)
                break
            size += len(data)
            self.party.pool.handle_bytes(self.line, data, self.party.now)
        return size

    def close(self) -> None:
        self.closed = True
        self.socket.close()


class Party:
    """One identity's pool, its sockets, and all that it was told."""

    def __init__(
        self,
        world: "World",
        name: str,
        standing: int = 3,
        proxy: Proxy | None = None,
    ) -> None:
        self.world = world
        self.name = name
        self.entropy = SeededEntropy(name)
        self.keys = KeyPair.generate(self.entropy)
        self.key = self.keys.public
        self.drops: Counter[str] = Counter()
        self.plugs: dict[int, Plug] = {}
        self.dials: list[tuple[int, Target]] = []
        self.dialed: list[Target] = []
        self.data: list[tuple[PublicKey, bytes]] = []
        self.oob: list[tuple[PublicKey, PublicKey, bytes]] = []
        self.onion: list[tuple[PublicKey, bytes]] = []
        self.links: list[tuple[PublicKey, bool]] = []
        self.connected: list[bool] = []
        self.on_oob: Callable[[PublicKey, PublicKey, bytes], None] | None = None
        self.pool = RelayPool(
            self.keys, self.entropy, self, self, self.drops, world.now, proxy, standing
        )

    @property
    def now(self) -> float:
        return self.world.now

    # As the dialer

    def dial(self, line: int, target: Target) -> None:
        self.dials.append((line, target))
        self.dialed.append(target)

    def write(self, line: int, data: bytes) -> int:
        plug = self.plugs[line]
        try:
            taken = plug.socket.send(data)
        except BlockingIOError:
            taken = 0
        except (BrokenPipeError, ConnectionResetError):
            return len(data)  # as a kernel does: the end is told by the next read
        plug.blocked = plug.blocked or taken < len(data)
        return taken

    def hang_up(self, line: int) -> None:
        plug = self.plugs.pop(line, None)
        if plug is not None:
            plug.close()
        self.dials = [row for row in self.dials if row[0] != line]

    # As the listener

    def relay_data(self, dht_key: PublicKey, data: bytes, now: float) -> None:
        self.data.append((dht_key, data))

    def relay_oob(self, relay_key: PublicKey, dht_key: PublicKey, data: bytes, now: float) -> None:
        self.oob.append((relay_key, dht_key, data))
        if self.on_oob is not None:
            self.on_oob(relay_key, dht_key, data)

    def relay_onion(self, relay_key: PublicKey, data: bytes, now: float) -> None:
        self.onion.append((relay_key, data))

    def relay_link(self, dht_key: PublicKey, linked: bool, now: float) -> None:
        self.links.append((dht_key, linked))

    def relay_connected(self, connected: bool, now: float) -> None:
        self.connected.append(connected)

    # For tests

    def take(self) -> list[bytes]:
        """Returns and forgets the data that came."""
        taken = [data for _, data in self.data]
        self.data = []
        return taken

    def states(self) -> dict[PublicKey, str]:
        """Returns the state of each relay that the pool knows."""
        return {row.key: row.state for row in self.pool.status()}

    def online(self) -> int:
        """Counts its connected relays."""
        return sum(state == "connected" for state in self.states().values())


class World:
    """Relays at addresses, and parties that dial them."""

    def __init__(self, relays: int = 1) -> None:
        self.now = START
        self.relays: dict[Endpoint, Joined] = {}
        self.places: list[Endpoint] = []
        self.parties: list[Party] = []
        for number in range(relays):
            place = from_text(f"198.51.100.{number + 1}", 3389)
            self.places.append(place)
            self.relays[place] = Joined(seed=number + 1)

    def key(self, place: Endpoint) -> PublicKey:
        return self.relays[place].keys.public

    def party(self, name: str, standing: int = 3) -> Party:
        party = Party(self, name, standing)
        self.parties.append(party)
        return party

    def knows_all(self, party: Party) -> None:
        """Tells a party of all relays."""
        for place, relay in self.relays.items():
            party.pool.add_relay(place, relay.keys.public, self.now)
        self.run()

    def meet(self, one: Party, other: Party, *places: Endpoint) -> None:
        """Lets two parties want each other by these relays."""
        for party, peer in ((one, other), (other, one)):
            party.pool.add_peer(peer.key, self.now)
            for place in places:
                party.pool.add_relay_of(peer.key, place, self.key(place), self.now)
        self.run()

    def kill(self, place: Endpoint) -> Joined:
        """Lets a relay die: nothing answers at its address any more."""
        relay = self.relays.pop(place)
        for plug in list(relay.others):
            assert isinstance(plug, Plug)
            if not plug.closed:
                plug.close()
                plug.party.plugs.pop(plug.line, None)
                plug.party.pool.handle_closed(plug.line, self.now)
        self.run()
        return relay

    def revive(self, place: Endpoint, old: Joined) -> None:
        """Starts a relay with the same key anew."""
        new = Joined(seed=f"{self.now}")
        new.keys = old.keys
        new.kill(0)
        new.start(0)
        self.relays[place] = new

    def _answer_dials(self) -> bool:
        busy = False
        for party in self.parties:
            dials, party.dials = party.dials, []
            for line, target in dials:
                busy = True
                relay = None if isinstance(target, tuple) else self.relays.get(target)
                if relay is None:
                    party.pool.handle_closed(line, self.now)
                    continue
                ours, theirs = socket.socketpair()
                ours.setblocking(False)
                theirs.setblocking(False)
                party.plugs[line] = plug = Plug(party, line, ours)
                relay.others.append(plug)
                relay.now = self.now
                relay.tcp.admit(theirs, HOME, self.now)
                party.pool.handle_connected(line, self.now)
        return busy

    def run(self) -> None:
        """Goes on until nothing happens any more."""
        for _ in range(1000):
            busy = self._answer_dials()
            for relay in list(self.relays.values()):
                relay.now = self.now
                relay.run()
                busy = any(party.dials for party in self.parties) or busy
            if not busy:
                return
        raise AssertionError("the world does not come to rest")

    def next_timer(self) -> float | None:
        """When something is due at any party."""
        times = [party.pool.next_timer() for party in self.parties]
        return min((when for when in times if when is not None), default=None)

    def wait(self, seconds: float) -> None:
        """Lets time go by; timers are called exactly when they are due."""
        self.run()
        until = self.now + seconds
        while True:
            times = [relay.tcp.next_timer() for relay in self.relays.values()]
            times.append(self.next_timer())
            due = min((when for when in times if when is not None), default=until)
            if due > until:
                break
            self.now = max(self.now, due)
            for relay in self.relays.values():
                relay.now = self.now
                when = relay.tcp.next_timer()
                if when is not None and when <= self.now:
                    relay.tcp.handle_timer(self.now)
            for party in self.parties:
                when = party.pool.next_timer()
                if when is not None and when <= self.now:
                    party.pool.handle_timer(self.now)
            self.run()
        self.now = until
        for relay in self.relays.values():
            relay.now = until

    def wait_for(self, done: Callable[[], bool], seconds: float = 60.0) -> None:
        """Lets time go by until something is so."""
        until = self.now + seconds
        while not done():
            if self.now >= until:
                raise AssertionError(f"it did not come about in {seconds} s")
            self.wait(0.25)
