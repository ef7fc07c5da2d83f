"""What a session costs: `python -m tests.net_crypto.bench_sessions` prints microseconds a packet.

Two identities in one process, without a network between them: what one sends the other takes at
once. The clock is made up, so that nothing waits; time is CPU time of this process. With `--kept`
both outlive their process: each packet stands in a slot until it is acknowledged or stored.
"""

import sys
import time
from collections.abc import Callable, Sequence

from core.crypto import PublicKey
from core.endpoint import Endpoint
from core.net_crypto import NO_TAG, SessionMemory, Tag
from core.net_crypto.bandwidth import Bandwidth
from tests.net_crypto.world import Person, World

BATCH = 16  # datagrams that come together
CHUNK = b"\x52" + bytes(1371)
TURNS = 7


class Direct(Person):
    """Keeps what it sends, to be handed over by hand."""

    def __init__(self, world: World, name: str, number: int, kept: bool = False) -> None:
        memory = SessionMemory() if kept else None
        super().__init__(world, name, number, rates=Bandwidth, kept=memory)
        self.sent: list[bytes] = []
        self.count = 0

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        self.sent.append(packet)

    def lossless(self, real_key: PublicKey, packets: Sequence[bytes], now: float) -> None:
        self.count += len(packets)
        lasting = self.crypto.lasting
        if lasting is not None:
            lasting.stored(real_key, lasting.handed(real_key), now)


def pair(kept: bool = False) -> tuple[World, Direct, Direct]:
    """Two people with a session."""
    world = World()
    alice, bob = Direct(world, "alice", 1, kept), Direct(world, "bob", 2, kept)
    alice.open(bob)
    for _ in range(4):
        hand_over(world, alice, bob)
        hand_over(world, bob, alice)
    assert alice.up
    assert bob.up
    return world, alice, bob


def hand_over(world: World, sender: Direct, receiver: Direct) -> None:
    """Brings all that was sent."""
    sent, sender.sent = sender.sent, []
    for first in range(0, len(sent), BATCH):
        some = sent[first : first + BATCH]
        for packet in some:
            if packet[0] != 0x1B:
                receiver.crypto.handle_udp(packet, sender.endpoint, world.now)
        data = [packet for packet in some if packet[0] == 0x1B]
        receiver.crypto.handle_data(data, sender.endpoint, world.now)


def bulk(packets: int, kept: bool = False) -> tuple[float, float, float]:
    """Seconds of CPU for sending, receiving and everything else of so many packets."""
    world, alice, bob = pair(kept)
    key = bob.real.public
    sending = receiving = rest = 0.0
    clock = time.process_time
    tag = NO_TAG
    while bob.count < packets:
        begin = clock()
        for _ in range(min(alice.crypto.room(key), packets)):
            tag = Tag(tag.seq + 1, tag.letter) if kept else NO_TAG
            alice.crypto.send(key, CHUNK, world.now, tag)
        alice.crypto.handle_timer(world.now)
        middle = clock()
        hand_over(world, alice, bob)
        end = clock()
        world.now += 0.001
        bob.crypto.handle_timer(world.now)
        hand_over(world, bob, alice)
        sending += middle - begin
        receiving += end - middle
        rest += clock() - end
    return sending, receiving, rest


def best(measure: Callable[[], tuple[float, ...]]) -> tuple[float, ...]:
    """The turn with the least sum: the others were disturbed."""
    return min((measure() for _ in range(TURNS)), key=sum)


def main() -> None:
    """Prints the figures."""
    kept = "--kept" in sys.argv
    counts = [one for one in sys.argv[1:] if one != "--kept"]
    packets = int(counts[0]) if counts else 20_000
    sending, receiving, rest = (1e6 * one / packets for one in best(lambda: bulk(packets, kept)))
    total = sending + receiving + rest
    print(f"sending   {sending:5.1f} us a packet of {len(CHUNK)} bytes")
    print(f"receiving {receiving:5.1f} us")
    print(f"the rest  {rest:5.1f} us (requests, acknowledgements)")
    print(f"both ends {total * 1e6 / len(CHUNK) / 1e3:5.1f} ms a MB")


if __name__ == "__main__":
    main()
