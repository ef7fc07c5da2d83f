"""The same datagrams straight at the modules: no processes, made-up time, an outbox to read."""

import contextlib
import random
from collections.abc import Iterable, Iterator

from core.crypto import KeyPair, SecretKey
from core.dht import DhtModule
from core.endpoint import Endpoint, udp4
from core.entropy import SeededEntropy
from core.module import Collected, Context, Module, NodeOptions, ProtocolViolation
from core.onion import OnionModule
from core.packets import ROUTES
from core.slots import SlotTable
from core.wire import WireError
from tests.fuzz.findings import Failure, Findings
from tests.fuzz.mutate import mutate
from tests.fuzz.wrong import CALLERS, Wrong, relay_talk
from tests.relay.joined import Joined

STEP_S = 0.001  # made-up time from one datagram to the next
_HOMES = [udp4(bytes((127, 0, 0, 1 + i)), 40_000 + i) for i in range(CALLERS)]


class Pair:
    """A dht and an onion module that tell each other, as shard 0 of a node without others."""

    def __init__(self, seed: int | str) -> None:
        entropy = SeededEntropy(f"pair {seed}")
        self.keys = KeyPair.generate(entropy)
        master = SecretKey(entropy.bytes(32))
        slots = {role: SlotTable.even(1) for role in ("dht", "onion", "relay")}
        options = NodeOptions(lan_discovery=False)
        self.outs = {"dht": Collected(), "onion": Collected()}
        contexts = {
            role: Context(self.keys, master, entropy, out, slots=dict(slots), options=options)
            for role, out in self.outs.items()
        }
        self.modules: dict[str, Module] = {
            "dht": DhtModule(contexts["dht"]),
            "onion": OnionModule(contexts["onion"]),
        }

    def turn(self, now: float) -> list[bytes]:
        """Delivers messages and runs timers that are due; returns what was sent."""
        sent: list[bytes] = []
        for out in self.outs.values():
            for role, _, message in out.told:
                module = self.modules.get(role)
                if module is not None:
                    module.handle_message(message, now)
            out.told.clear()
        for module in self.modules.values():
            when = module.next_timer()
            if when is not None and when <= now:
                module.handle_timer(now)
        for out in self.outs.values():
            sent += [packet for _, packet in out.sent]
            out.sent.clear()
        return sent


def datagrams(count: int, seed: int | str) -> list[Failure]:
    """Gives `count` datagrams to both modules; only the two named errors may come out."""
    pair = Pair(seed)
    wrong = Wrong(pair.keys.public, seed, _HOMES)
    findings = Findings(seed)
    now = 1000.0
    replies: list[tuple[bytes, Endpoint]] = []
    for number in range(count):
        now += STEP_S
        packet, source = replies.pop() if replies else (wrong.datagram(), wrong.home())
        route = ROUTES.get(packet[0]) if packet else None
        role = route.role if route is not None else ("dht", "onion")[number & 1]
        module = pair.modules.get(role) or pair.modules["dht"]
        if wrong.chance.random() < 0.1:
            source = wrong.chance.choice(_HOMES)
        with findings.of(role, packet):
            with contextlib.suppress(WireError, ProtocolViolation):
                module.handle_packet(packet, source, now)
            for sent in pair.turn(now):
                wrong.learn(sent)
                reply = wrong.answer(sent)
                if reply is not None and len(replies) < 100:
                    replies.append((reply, wrong.home()))
        if findings.full:
            break
    return findings.failures


def _streams(
    chance: random.Random, packets: Iterator[bytes], relay: Joined
) -> Iterator[list[bytes]]:
    """Yields lists of pieces of a stream: each piece is given alone."""
    while True:
        end = relay.ends[-1].client
        pieces: list[bytes] = []
        for _ in range(chance.randrange(1, 12)):
            packet = next(packets)
            if chance.random() < 0.3:
                packet = packet[:1] + mutate(packet[1:], chance)
            elif chance.random() < 0.03:
                packet = mutate(packet, chance)
            if chance.random() < 0.1:
                packet = b"\x00" + relay.ends[0].key
            if len(packet) > 2030:
                packet = packet[:2030]
            frame = end.frame(packet)
            if chance.random() < 0.03:
                frame = mutate(frame, chance)
            pieces.append(frame)
        whole = b"".join(pieces)
        cuts = sorted(chance.randrange(len(whole) + 1) for _ in range(chance.randrange(3)))
        yield [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def relay(count: int, seed: int | str) -> list[Failure]:
    """Gives `count` streams of right boxes and wrong packets to broker half and relay shards."""
    chance = random.Random(f"relay {seed}")
    packets = relay_talk(chance)
    joined = Joined(2, seed=f"relay {seed}")
    joined.confirmed()
    findings = Findings(seed)
    for number in range(count):
        if len(joined.ends) > 12:
            for gone in joined.ends[1:7]:
                gone.socket.close()
                gone.closed = True
            joined.run()
            del joined.ends[1:7]
        end = joined.connect()
        with (
            findings.of("relay", b""),
            contextlib.suppress(BrokenPipeError, ConnectionResetError),
        ):
            hello = end.client.hello()
            if number % 10 == 0:
                end.socket.sendall(findings.now_with(mutate(hello, chance)))
                joined.run()
                continue
            end.socket.sendall(hello)
            joined.run()
            for data in next(_streams(chance, packets, joined)):
                if end.closed:
                    break
                end.socket.sendall(findings.now_with(data))
                joined.run()
            joined.wait(0.25)
        if findings.full:
            break
    return findings.failures


def garbage(lengths: Iterable[int], seed: int = 1) -> list[Failure]:
    """Gives every first byte with these lengths of zeros, ones and noise; nothing may be sent."""
    chance = random.Random(seed)
    pair = Pair(seed)
    findings = Findings(seed)
    now = 1000.0
    pair.turn(now)
    for length in lengths:
        for kind in range(256):
            route = ROUTES.get(kind)
            module = pair.modules.get(route.role if route else "onion") or pair.modules["dht"]
            for tail in (bytes(length), b"\xff" * length, chance.randbytes(length)):
                packet = bytes((kind,)) + tail
                with (
                    findings.of(f"{kind:#x}", packet),
                    contextlib.suppress(WireError, ProtocolViolation),
                ):
                    module.handle_packet(packet[: max(0, length)], _HOMES[0], now)
                if any(out.sent for out in pair.outs.values()):
                    findings.add("it was answered")
                    for out in pair.outs.values():
                        out.sent.clear()
                if findings.full:
                    return findings.failures
    return findings.failures
