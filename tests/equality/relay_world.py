"""One relay shard twice, with clients and a broker between whom it stands.

The broker here does what the real one does with commits, by the same `Directory`; but it applies
them late, calls receivers full at random, and cuts streams where it likes. Every input goes to the
hot shard and to the declared one.
"""

import contextlib
import random
from collections import Counter
from typing import Any, NamedTuple

from core import crypto
from core.crypto import KeyPair, Nonce, PublicKey, SecretKey, SharedKey, SharedKeys
from core.endpoint import from_text
from core.entropy import SeededEntropy
from core.module import Collected, Context, NodeOptions, ProtocolViolation
from core.onion import Forwarding, OnionHops, OnionModule
from core.packets.relay import (
    ClientHello,
    ConnectNotice,
    DisconnectNotice,
    HelloBody,
    OobReceive,
    OobSend,
    RelayData,
    RelayForwardRequest,
    RelayOnionRequest,
    RelayPing,
    RelayPong,
    RouteRequest,
)
from core.relay import Directory, RelayShard, frames
from core.relay.directory import Notice
from core.wire import Record
from tests.equality.addresses import GOOD, ODD
from tests.equality.declared_relay import Connection, DeclaredRelay
from tests.equality.world import Mismatch
from tests.fuzz.mutate import mutate
from tests.packets.samples import Dice, sample

LOCAL = 12  # clients of this shard
REMOTE = 5  # clients of others, which here only the broker knows
_NOISE = random.Random("relay noise").randbytes(1 << 14)
_MAX_DATA = 2031


class Frame(NamedTuple):
    """What a client sends, and how it was made."""

    data: bytes
    name: str


class Client:
    """One client as it sees itself: its cipher, and bytes that are still under way."""

    def __init__(self, serial: int, key: bytes, chance: random.Random) -> None:
        self.serial = serial
        self.key = key
        self.shared = SharedKey(chance.randbytes(32))
        self.send = Nonce(b"\xff" * 23 + b"\xf0" if chance.random() < 0.2 else chance.randbytes(24))
        self.receive = Nonce(chance.randbytes(24))
        self.private = chance.random() < 0.5
        self.source = from_text("10.1.2.3" if self.private else "198.51.100.7", 1000)
        self.confirmed = chance.random() < 0.7
        self.pipe = b""
        self.names: list[str] = []
        self.pinged: int | None = None  # by the relay
        self.secret: SecretKey | None = None  # while its hello is answered

    def frame(self, plain: bytes) -> bytes:
        """Seals a packet under the next nonce."""
        box = crypto.seal(self.shared, self.send, plain)
        self.send = crypto.increment(self.send)
        return len(box).to_bytes(2, "big") + box


class _Drawn(SeededEntropy):
    """Bytes for hellos, which begin again with each input: how many a shard has drawn for a hello
    that it then refuses is nobody's business."""

    def __init__(self, seed: str) -> None:
        super().__init__(f"relay {seed} 0")
        self._seed = seed

    def begin(self, number: int) -> None:
        """Goes on with other bytes."""
        self._random.seed(f"relay {self._seed} {number}")


class RelayWorld:
    """A relay shard, its clients and its broker; time is made up."""

    def __init__(self, seed: str, variant: int) -> None:
        self.seed = seed
        self.chance = chance = random.Random(f"relay world {seed}")
        self.dice = Dice(chance)
        entropy = SeededEntropy(f"relay keys {seed}")
        self.keys = KeyPair.generate(entropy)
        master = SecretKey(entropy.bytes(32))
        options = NodeOptions(lan_discovery=False, has_ipv6=variant % 3 != 2)
        self.hot_out, self.declared_out = Collected(), Collected()

        self._hellos = (_Drawn(seed), _Drawn(seed))
        def context(out: Collected) -> Context:
            hops = SeededEntropy(f"relay hops {seed}")
            return Context(self.keys, master, hops, out, options=options)

        hot = context(self.hot_out)
        self.hot = RelayShard(
            SharedKeys(self.keys.secret),
            self._hellos[0],
            OnionHops(hot).relay_onion_request,
            Forwarding(hot, OnionModule(hot).nodes).relay_forward_request,
        )
        plain = context(self.declared_out)
        self.declared = DeclaredRelay(plain, self.declared_out, self._hellos[1])
        self.now = chance.choice((5.0, 7199.0, 50_000.0))
        self._small = chance.choice((0.7, 0.1))  # which part of the data is short
        self._burst = chance.choice((3, 12, 40))  # frames that a client says at once
        self._lag = chance.choice((1, 3, 12))  # how many commits may wait to be applied
        self.directory = Directory()
        self.clients: dict[int, Client] = {}
        self.remote: list[int] = []
        self._serial = 0
        self._sequence = 0
        self._applied = 0
        self._late: list[tuple[int, list[Notice]]] = []  # by sequence: what commits led to
        self._records: list[Client] = []  # that the shard does not have yet
        self._notes: list[tuple[int, int]] = []
        self._full: set[int] = set()
        self.seen: Counter[str] = Counter()
        for _ in range(REMOTE):
            self.remote.append(self._new_serial())
            self.directory.confirm(self.remote[-1], chance.randbytes(32))
        for _ in range(LOCAL):
            self._new_client()

    def _new_serial(self) -> int:
        self._serial += 1
        return self._serial

    def _new_client(self) -> None:
        """A connection whose hello was answered by another worker before this one."""
        client = Client(self._new_serial(), self.chance.randbytes(32), self.chance)
        self.clients[client.serial] = client
        self._records.append(client)
        if client.confirmed:
            self.directory.confirm(client.serial, client.key)

    # What clients say

    def _someone(self, client: Client) -> bytes:
        """The key of another client, local or not: mostly a neighbour's, who asks for ours too."""
        keys = [other.key for other in self.clients.values()]
        if self.chance.random() < 0.7 and client.key in keys:
            return keys[(keys.index(client.key) + self.chance.choice((-1, 1))) % len(keys)]
        for serial in self.remote:
            other = self.directory.client(serial)
            assert other is not None
            keys.append(other.key)
        return self.chance.choice(keys)

    def _size(self) -> int:
        dice = self.chance.random()
        if dice < self._small:
            return int(self.chance.random() * 100)
        if dice < self._small + 0.1:
            return self.chance.choice((0, 1, _MAX_DATA - 1, _MAX_DATA))
        return int(self.chance.random() * _MAX_DATA)

    def _links(self, client: Client) -> list[int]:
        known = self.directory.client(client.serial)
        return [] if known is None else list(known.links)

    def _packet(self, client: Client) -> tuple[bytes, str]:
        """Makes what a client might say next."""
        chance = self.chance
        dice = chance.random()
        links = self._links(client)
        packet: Record
        up = [link for link in links if self.directory.peer_of(client.serial, link)]
        if dice < 0.70 and links and (up or dice < 0.05):
            if up and dice > 0.02:
                links = up
            packet = RelayData(chance.choice(links), _NOISE[: self._size()])
        elif dice < 0.82:
            packet = RelayPing(chance.choice((1, chance.getrandbits(64), 0)))
        elif dice < 0.86:
            expected = client.pinged or 1
            packet = RelayPong(chance.choice((expected, expected, chance.getrandbits(64) | 1)))
        elif dice < 0.90 or not links or (not up and dice < 0.95):
            packet = RouteRequest(PublicKey(self._someone(client)))
        elif dice < 0.903:
            packet = RelayData(chance.randrange(16, 256), b"to nobody, perhaps")
        elif dice < 0.915:
            packet = DisconnectNotice(chance.choice((*links, chance.randrange(16, 256))))
        elif dice < 0.93:
            packet = ConnectNotice(chance.randrange(256))
        elif dice < 0.95:
            data = _NOISE[: chance.choice((1, 50, 1024))]
            packet = OobSend(PublicKey(self._someone(client)), data)
        elif dice < 0.97:
            return self._onion()
        elif dice < 0.99:
            return self._forward()
        else:
            return self._wrong()
        return packet.encode(), type(packet).__name__

    def _onion(self) -> tuple[bytes, str]:
        address = self.chance.choice(GOOD if self.chance.random() < 0.5 else ODD)
        size = self.chance.choice((84, 85, 300, 1283, 1284, 1285, 1900))
        start = self.chance.randrange(1000)
        body = _NOISE[start : start + 24] + address.packed + _NOISE[start : start + 32 + size]
        return b"\x08" + body, f"onion request to {address.name}, {size} sealed"

    def _forward(self) -> tuple[bytes, str]:
        address = self.chance.choice(GOOD if self.chance.random() < 0.85 else ODD)
        packed = address.packed
        if packed[0] in (0x02, 0x82):
            packed = packed[:5] + packed[17:]
        size = self.chance.choice((0, 1, 500, 1791, 1792, 1792))
        size += self.chance.random() < 0.05
        return b"\x0a" + packed + _NOISE[:size], f"forward request to {address.name}, {size} bytes"

    def _wrong(self) -> tuple[bytes, str]:
        """A packet that is wrong in some way: mostly the end of the connection."""
        chance = self.chance
        classes: tuple[type[Record], ...] = (
            RouteRequest, ConnectNotice, DisconnectNotice, RelayPing, RelayPong, OobSend,
            RelayOnionRequest, RelayForwardRequest, RelayData,
        )  # fmt: skip
        cls = chance.choice(classes)
        plain = mutate(sample(cls, self.dice).encode(), chance)[:2032] or b"\x00"
        dice = chance.random()
        if dice < 0.3:
            kind = chance.choice((1, 7, 9, 11, 12, 15, 3, 5))
            plain = bytes((kind,)) + plain[1:]
        elif dice < 0.35:
            return b"\x05" + bytes(8), "RelayPong 0"
        return plain, f"wrong {cls.__name__}"

    def _frame(self, client: Client) -> Frame:
        """Seals the next packet of a client; one in 500 frames is broken."""
        chance = self.chance
        plain, name = self._packet(client)
        if chance.random() < 0.998:
            return Frame(client.frame(plain), name)
        dice = chance.random()
        frame = client.frame(plain)
        if dice < 0.3:
            at = int(chance.random() * len(frame))
            bit = 1 << int(chance.random() * 8)
            frame = frame[:at] + bytes((frame[at] ^ bit,)) + frame[at + 1 :]
            return Frame(frame, f"{name}, flip at {at}")
        if dice < 0.5:
            return Frame(frame + frame, f"{name}, twice")
        if dice < 0.6:
            return Frame(b"\x00\x00", "an empty frame")
        if dice < 0.7:
            return Frame(client.frame(b""), "nothing in a box")
        if dice < 0.8:
            size = chance.choice((2049, 2048, 65_535, 1, 15, 16))
            return Frame(size.to_bytes(2, "big") + _NOISE[:size], f"noise of {size}")
        return Frame(client.frame((plain + _NOISE)[:2033]), f"{name}, 2033 bytes")

    # Turns

    def turn(self, most: int) -> int:
        """One input with up to `most` new frames; returns how many there were. Raises Mismatch."""
        chance = self.chance
        self._sequence += 1
        notices = self._apply_some()
        records, self._records = self._records, []
        spoken = 0
        chunks: list[tuple[int, bytes]] = []
        for client in self._speakers():
            for _ in range(min(int(chance.random() * self._burst), most - spoken)):
                data, name = self._frame(client)
                client.pipe += data
                client.names.append(name)
                spoken += 1
            cut = len(client.pipe)
            if chance.random() < 0.2:
                cut = int(chance.random() * (cut + 1))
            if cut:
                chunks.append((client.serial, client.pipe[:cut]))
                client.pipe = client.pipe[cut:]
        hello = self._hello()
        self._give(notices, records, hello, chunks)
        self._pass_time()
        return spoken

    def _speakers(self) -> list[Client]:
        clients = [client for client in self.clients.values() if client.secret is None]
        return self.chance.sample(clients, min(len(clients), 1 + int(self.chance.random() * 6)))

    def _pass_time(self) -> None:
        dice = self.chance.random()
        self.now += 0.004 if dice < 0.9 else self.chance.choice((0.06, 0.3, 1.1, 28.5, 30.5, 46.0))

    def _apply_some(self) -> list[Notice]:
        """The broker applies some of the commits it has: what they lead to is told now."""
        notices: list[Notice] = []
        left = int(self.chance.random() * self._lag)
        while len(self._late) > left:
            self._applied, led = self._late.pop(0)
            notices += led
        for client in list(self.clients.values()):
            if client.pinged is None and self.chance.random() < 0.02:
                client.pinged = self.chance.getrandbits(63) | 1
                notices.append(Notice(client.serial, RelayPing(client.pinged).encode()))
            elif self.chance.random() < 0.05:
                links = self._links(client)
                if links:  # from a client of another shard
                    data = RelayData(self.chance.choice(links), _NOISE[: self._size()])
                    notices.append(Notice(client.serial, data.encode()))
        return notices

    def _hello(self) -> tuple[Client, bytes] | None:
        """Now and then somebody new comes: rightly, with a wrong hello, or with a key of low
        order."""
        chance = self.chance
        if chance.random() > 0.03:
            return None
        real = KeyPair.from_secret(chance.randbytes(32))
        temporary = KeyPair.from_secret(chance.randbytes(32))
        client = Client(self._new_serial(), real.public, chance)
        shared = crypto.precompute(real.secret, self.keys.public)
        assert shared is not None
        nonce = Nonce(chance.randbytes(24))
        public = PublicKey(bytes(32)) if chance.random() < 0.1 else temporary.public
        body = HelloBody(public, client.send).seal(shared, nonce)
        hello = ClientHello(real.public, nonce, body).encode()
        if chance.random() < 0.3:
            hello = mutate(hello, chance)[:128].ljust(128, b"\x00")
        client.secret = temporary.secret
        client.shared = shared
        client.confirmed = False
        return client, hello

    def _draw_notes(self) -> list[tuple[int, int]]:
        """The broker says of some receivers that they are full, or not any more."""
        chance = self.chance
        notes = []
        if chance.random() < 0.1:
            serial = chance.choice((*self.clients, *self.remote))
            if serial in self._full:
                self._full.discard(serial)
                notes.append((serial, frames.ROOM))
            else:
                self._full.add(serial)
                notes.append((serial, chance.choice((frames.FULL, frames.FULL, frames.HELD))))
        for serial in [row for row in self._full if chance.random() < 0.1]:
            self._full.discard(serial)
            notes.append((serial, frames.ROOM))
        if chance.random() < 0.005 and self.clients:
            serial = chance.choice(list(self.clients))
            notes.append((serial, frames.FORGET))
        return notes

    def _give(
        self,
        notices: list[Notice],
        records: list[Client],
        hello: tuple[Client, bytes] | None,
        chunks: list[tuple[int, bytes]],
    ) -> None:
        """Gives one input to both sides and compares everything that follows from it."""
        notes = self._draw_notes()
        flat_records: list[Any] = []
        declared = self.declared
        declared.begin(self._sequence, self._applied)
        for entropy in self._hellos:
            entropy.begin(self._sequence)
        for serial, note in notes:
            declared.note(serial, note)
        for client in records:
            links = self._record_links(client)
            flat_links: list[int] = []
            for link, peer in links.items():
                flat_links += (link, *(peer or (0, 0)))
            flat_records += (
                client.serial, client.key, client.shared, bytes(client.send),
                bytes(client.receive), client.confirmed, client.source, None, flat_links,
                frames.ROOM,
            )  # fmt: skip
            declared.adopt(
                Connection(
                    serial=client.serial,
                    shared=client.shared,
                    receive=client.send,
                    send=client.receive,
                    confirmed=client.confirmed,
                    private=client.private,
                    links=links,
                )
            )
        flat_inbox: list[Any] = []
        for notice in notices:
            other = (notice.peer_serial, notice.peer_id) if notice.peer_serial else None
            flat_inbox += (notice.serial, notice.frame, None if other is None else list(other))
            declared.inbox(notice.serial, notice.frame, other, self.now)
        flat_hellos: list[Any] = []
        if hello is not None:
            client, data = hello
            self.clients[client.serial] = client
            flat_hellos += (client.serial, data, client.source)
            declared.hello(client.serial, data, client.private)
        for serial, data in chunks:
            declared.stream(serial, data, self.now)
        declared.look(bool(notes), self.now)
        flat_notes = [part for row in notes for part in row]
        sizes = [part for serial, data in chunks for part in (serial, len(data))]
        stream = b"".join(data for _, data in chunks)
        items = [
            1, self._sequence, self._applied, flat_notes, flat_records, flat_inbox, flat_hellos,
            sizes, stream,
        ]  # fmt: skip
        commit = self.hot.handle(items, self.now)
        if commit is None:
            raise self._mismatch("no commit")
        self._compare(commit)
        for serial, note in notes:
            if note == frames.FORGET:
                self._gone(serial)
        self._late.append((self._sequence, self._led_to(commit[4])))

    def _record_links(self, client: Client) -> dict[int, tuple[int, int] | None]:
        known = self.directory.client(client.serial)
        return {} if known is None else {
            link: self.directory.peer_of(client.serial, link) for link in known.links
        }

    def _compare(self, commit: list[Any]) -> None:
        declared = self.declared
        _, sequence, flat, out, effects, drops = commit
        effects = [tuple(effect) for effect in effects]
        if effects != declared.effects:
            raise self._mismatch(f"effects  {effects}\ndeclared {declared.effects}")
        if drops != dict(declared.drops) or self.hot_out.drops != self.declared_out.drops:
            raise self._mismatch(
                f"counted  {drops}, {self.hot_out.drops}\n"
                f"declared {dict(declared.drops)}, {self.declared_out.drops}"
            )
        if self.hot_out.sent != self.declared_out.sent:
            raise self._mismatch(
                f"sent     {self.hot_out.sent}\ndeclared {self.declared_out.sent}"
            )
        self.hot_out.sent.clear()
        self.declared_out.sent.clear()
        ended = {connection.serial: connection for connection in declared.ended}
        rows = {}
        at = 0
        for i in range(0, len(flat), frames.ROW_FIELDS):
            serial, consumed, received, sealed, done, wait, size = flat[i : i + frames.ROW_FIELDS]
            rows[serial] = (consumed, received, sealed, done, wait, bytes(out[at : at + size]))
            at += size
        if sequence != self._sequence or at != len(out):
            raise self._mismatch(f"commit {sequence} has {len(out)} bytes, {at} in its rows")
        for connection in (*declared.connections.values(), *ended.values()):
            row = connection.row
            wanted = (row.consumed, row.received, row.sealed, row.done, connection.wait, row.out)
            found = rows.pop(connection.serial, (0, 0, 0, 0, connection.wait, b""))
            # Of the last input of one that was closed, only what goes out matters.
            same = found[2::3] == wanted[2::3] if connection.closed else found == wanted
            if not same:
                name = "closed client" if connection.closed else "client"
                raise self._mismatch(
                    f"{name} {connection.serial}\nrow      {found}\ndeclared {wanted}"
                )
        if rows:
            raise self._mismatch(f"rows of nobody: {rows}")
        if set(self.hot.sessions) != set(declared.connections):
            raise self._mismatch(f"{set(self.hot.sessions)}, not {set(declared.connections)}")
        for serial, session in self.hot.sessions.items():
            connection = declared.connections[serial]
            nonces = (session.receive.to_bytes(24, "big"), session.send.to_bytes(24, "big"))
            if nonces != (connection.receive, connection.send) or session.links != connection.links:
                raise self._mismatch(f"client {serial}: nonces or links differ")
        self._count(drops, effects, rows)

    def _count(self, drops: dict[str, int], effects: list[tuple[Any, ...]], rows: Any) -> None:
        self.seen.update(drops)
        for connection in self.declared.connections.values():
            self.seen[f"wait {connection.wait}"] += 1
            self.seen["sealed"] += connection.row.sealed
            self.seen["received"] += connection.row.received
        for effect in effects:
            name = f"close {effect[2]}" if effect[0] == frames.CLOSE else f"effect {effect[0]}"
            self.seen[name] += 1

    # What the broker does with a commit

    def _gone(self, serial: int) -> list[Notice]:
        """A connection ended, and somebody else comes."""
        self.clients.pop(serial, None)
        self._full.discard(serial)
        self._new_client()
        return self.directory.remove(serial)

    def _led_to(self, effects: list[Any]) -> list[Notice]:
        notices: list[Notice] = []
        for effect in effects:
            tag, serial = effect[0], effect[1]
            client = self.clients.get(serial)
            if client is None:
                continue
            if tag == frames.CLOSE:
                notices += self._gone(serial)
            elif tag == frames.HELLO:
                client.shared = effect[2]
                client.secret = None
            elif tag == frames.CONFIRM:
                if self.directory.client(serial) is None:
                    self.directory.confirm(serial, client.key)
            elif tag == frames.PONG:
                client.pinged = None
            elif self.directory.client(serial) is None:
                continue
            elif tag == frames.ROUTE:
                notices += self.directory.route(serial, effect[2])
                notices += self._ask_back(serial, effect[2])
            elif tag == frames.UNLINK:
                with contextlib.suppress(ProtocolViolation):  # twice, as the shard saw it late
                    notices += self.directory.unlink(serial, effect[2])
            elif tag == frames.OOB:
                other = self.directory.find(effect[2])
                if other is not None:
                    frame = OobReceive(PublicKey(client.key), effect[3]).encode()
                    notices.append(Notice(other.serial, frame))
        return [notice for notice in notices if notice.serial in self.clients]

    def _ask_back(self, serial: int, key: bytes) -> list[Notice]:
        """A client of another shard asks back at once."""
        other = self.directory.find(key)
        client = self.directory.client(serial)
        if other is None or client is None or other.serial not in self.remote:
            return []
        return self.directory.route(other.serial, client.key)

    def _mismatch(self, what: str) -> Mismatch:
        said = [f"seed {self.seed!r}, input {self._sequence} of this world, time {self.now}", what]
        said += [
            f"client {client.serial} said last: {', '.join(client.names[-12:])}"
            for client in self.clients.values()
        ]
        return Mismatch("\n".join(said))
