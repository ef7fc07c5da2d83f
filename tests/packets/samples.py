"""Valid packets made up at random, for round trips, fuzzing and load.

`sample(NodesRequest, Dice(7))` is an instance, `packets_of(0x02, random.Random(7))` an endless
supply of datagrams of one kind. What stands inside boxes is random bytes of a size that fits.
"""

import random
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

from core.crypto import PublicKey
from core.endpoint import Endpoint, udp4, udp6
from core.packets import ALL, UDP_PACKETS, NodeInfo
from core.packets.nodes import Compact, Nodes, Padded
from core.packets.relay import RelayData, RelayPacket
from core.wire import Fixed, Maybe, Nested, Number, Record, Rest, Run, Several, Variable

R = TypeVar("R", bound=Record)


class Chance(Protocol):
    """Where the choices come from: a seed here, Hypothesis in the round trip test."""

    def number(self, low: int, high: int) -> int:
        """Returns a number in low..high."""
        ...

    def bytes(self, low: int, high: int) -> bytes:
        """Returns low..high bytes."""
        ...


class Dice:
    """Choices from a seed."""

    def __init__(self, seed: int | random.Random) -> None:
        self._random = seed if isinstance(seed, random.Random) else random.Random(seed)

    def number(self, low: int, high: int) -> int:
        """Returns a number in low..high, often one of the ends."""
        return self._random.choice((low, high, self._random.randint(low, high)))

    def bytes(self, low: int, high: int) -> bytes:
        """Returns random bytes."""
        return self._random.randbytes(self.number(low, high))


def sample(cls: type[R], chance: Chance) -> R:
    """Makes a valid instance of a declared class."""
    excess = sum(field.rule.high for field in cls.FIELDS) - cls.MAX_SIZE
    excess += 0 if cls.kind is None else 1
    values = {
        field.name: _value(field.rule, chance, max(0, excess))
        for field in cls.FIELDS
        if field.value is None and not field.counts
    }
    return cls(**values)


def endpoint(chance: Chance) -> Endpoint:
    """Makes an address."""
    port = chance.number(0, 65535)
    if chance.number(0, 1):
        return udp6(b"\x20" + chance.bytes(15, 15), port)
    return udp4(chance.bytes(4, 4), port)


def node(chance: Chance, tcp: bool = False) -> NodeInfo:
    """Makes a packed node; with `tcp` perhaps a relay."""
    key = PublicKey(chance.bytes(32, 32))
    return NodeInfo(key, endpoint(chance), tcp and bool(chance.number(0, 1)))


def _value(rule: Fixed | Number | Variable, chance: Chance, excess: int = 0) -> Any:
    match rule:
        case Fixed():
            return chance.bytes(rule.low, rule.low)
        case Number():
            if rule.others and chance.number(0, 1):
                return rule.others[0]
            return chance.number(rule.least, rule.greatest)
        case Rest() if rule.sizes:
            size = rule.sizes[chance.number(0, len(rule.sizes) - 1)]
            return chance.bytes(size, size)
        case Rest() | Run():
            return chance.bytes(rule.low, rule.high - excess)
        case Maybe():
            return _value(rule.inner, chance) if chance.number(0, 1) else None
        case Nodes():
            return tuple(node(chance, rule.tcp) for _ in range(chance.number(0, rule.most)))
        case Compact() | Padded():
            return endpoint(chance)
        case Several():
            return tuple(sample(rule.record, chance) for _ in range(chance.number(0, rule.most)))
        case Nested():
            return sample(rule.record, chance)
    raise TypeError(f"no sample for {rule!r}")


def packets_of(kind: int, source: random.Random) -> Iterator[bytes]:
    """Yields valid datagrams with this first byte, of all classes that share it."""
    chance = Dice(source)
    while True:
        for cls in UDP_PACKETS[kind]:
            yield sample(cls, chance).encode()


def relay_packets(source: random.Random) -> Iterator[bytes]:
    """Yields valid relay packets of all kinds in turn."""
    chance = Dice(source)
    classes = [cls for cls in ALL if issubclass(cls, RelayPacket) or cls is RelayData]
    while True:
        for cls in classes:
            yield sample(cls, chance).encode()
