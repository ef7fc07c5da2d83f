"""Where the packets between two identities are tried: `python -m tests.packets.coverage` writes
README.md of this folder, and test_coverage.py compares it with what there is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from core.packets import messenger, net_crypto
from core.packets.announce import FriendRequest
from core.packets.dht import DhtKeyPacket, DhtKeyRequestBody
from core.wire import Packet, Record
from tests.packets import vectors

PAGE = Path(__file__).with_name("README.md")

_DECLARED = [
    cls
    for family in (net_crypto, messenger)
    for cls in vars(family).values()
    if isinstance(cls, type)
    and issubclass(cls, Record)
    and cls.__module__ == family.__name__
    and cls.MAX_SIZE
]
OF_SESSIONS = tuple(cls for cls in _DECLARED if issubclass(cls, Packet))
"""What net_crypto sends over UDP and through relays."""
BODIES = tuple(cls for cls in _DECLARED if cls.__name__.endswith("Body"))
"""What is in their boxes."""
IN_SESSIONS = tuple(cls for cls in _DECLARED if cls not in (*OF_SESSIONS, *BODIES))
"""What is said inside sessions."""
BY_ONION = (FriendRequest, DhtKeyPacket, DhtKeyRequestBody)
"""What friends tell each other before there is a session."""


class Tried(NamedTuple):
    """The tests that try a packet, besides those that go through the whole packet table."""

    fuzzed: str
    in_shards: str
    simulated: str


_EVERYTHING = "tests/messenger/test_everything.py::"
_ALONE = _EVERYTHING + (
    "test_an_identity_does_the_same_in_one_shard_with_others_and_in_one_of_its_own"
)
_CROSSES = _EVERYTHING + "test_each_packet_crosses_a_bad_network_and_all_arrives_exactly"
_IDENTITY = "tests/fuzz/test_identity.py::test_an_identity_counts_what_is_wrong_and_goes_on"
TRIED: dict[tuple[type[Record], ...], Tried] = {
    OF_SESSIONS: Tried(
        "tests/net_crypto/test_fuzz.py::test_noise_is_refused_and_not_answered", _ALONE, _CROSSES
    ),
    BODIES: Tried(_IDENTITY, _ALONE, _CROSSES),
    IN_SESSIONS: Tried(_IDENTITY, _ALONE, _CROSSES),
    BY_ONION: Tried(
        "tests/onion_client/test_fuzz.py::"
        "test_real_packets_with_any_bit_turned_change_nothing_or_are_refused",
        "tests/identity/test_engine.py::"
        "test_identities_see_no_difference_between_nodes_of_one_shard_and_of_several",
        "tests/identity/test_engine.py::test_strangers_become_friends_over_a_bad_network",
    ),
}

_TOP = """# What tries the packets between two identities

Made by `python -m tests.packets.coverage`; `test_coverage.py` fails when it is out of date, when
one of these packets has no vector of the reference's making, or when a test named here is gone.

All declared packets, these and others, also go through `tests/packets/test_table.py` (sizes, round
trips, vectors) and `tests/fuzz/codecs.py` (mutations). `tests/net_crypto/test_junk.py` gives one
identity a million packets that strangers can make, while friends come and go.

Packets that libtoxcore knows and toxmesh does not yet: invitations to groups (5f) and conferences
(60-64, c7), counted as `messenger_unknown_kind` or handed on as a custom packet (c7).
"""


def page() -> str:
    """Returns the whole page."""
    return "\n".join([_TOP, *(line for classes in TRIED for line in _table(classes))])


def vectors_of(cls: type[Record]) -> list[dict[str, Any]]:
    """Returns the vectors that show a class, as the packet or in its box."""
    return [vector for vector in vectors.load() if cls.__name__ in vectors.names_in(vector)]


def _table(classes: tuple[type[Record], ...]) -> Iterator[str]:
    titles = {
        OF_SESSIONS: "Sessions, from outside",
        BODIES: "In the boxes of these",
        IN_SESSIONS: "Inside sessions",
        BY_ONION: "Before there is a session",
    }
    tried = TRIED[classes]
    yield from (f"## {titles[classes]}", "")
    yield f"- fuzzed: `{tried.fuzzed}`"
    yield f"- in shards: `{tried.in_shards}`"
    yield f"- simulated: `{tried.simulated}`"
    yield from ("", "| packet | vectors | made by |", "|---|---|---|")
    for cls in classes:
        kind = "" if cls.kind is None else f" ({cls.kind:02x})"
        found = vectors_of(cls)
        names = ", ".join(sorted(vector["name"] for vector in found))
        makers = ", ".join(sorted({vector["made_by"] for vector in found}))
        yield f"| {cls.__name__}{kind} | {names} | {makers} |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
