"""What two clients do with each other in the interop tests, in steps a test can put together."""

from dataclasses import dataclass
from hashlib import sha256
from random import Random

from core.slots import SlotTable
from tests.interop.conftest import MakeClient
from tests.interop.driver import Client, wait_until
from tests.interop.nodes import Address

CONNECT_TIMEOUT_S = 60
FRIENDS_TIMEOUT_S = 120
CHAT_TIMEOUT_S = 60
FILE_TIMEOUT_S = 120
MESSAGES = 100
FILE_SIZE = 5_000_000
OVER_TCP, OVER_UDP = 1, 2  # tox.h: Tox_Connection


@dataclass
class Pair:
    """Two clients that become friends, and the number under which each knows the other."""

    alice: Client
    bob: Client
    alices_number: int = 0
    bobs_number: int = 0

    def both(self) -> tuple[Client, Client]:
        """Returns the two."""
        return self.alice, self.bob

    def sides(self) -> tuple[tuple[Client, int], tuple[Client, int]]:
        """Returns each of the two with the number it has for the other."""
        return (self.alice, self.alices_number), (self.bob, self.bobs_number)

    def are_friends(self, over: tuple[int, ...] = (OVER_TCP, OVER_UDP)) -> bool:
        """Tells whether each sees the other online, over one of the given transports."""
        return all(client.friends.get(number) in over for client, number in self.sides())


def make_pair(
    make_client: MakeClient, versions: tuple[str, str], *, udp: bool, ipv6: bool = False
) -> Pair:
    """Makes two clients whose keys lie on different shards of every role that has two."""
    alice, bob = (
        make_client(
            version,
            name=f"{name} {version}",
            udp=udp,
            dht_parity=parity,
            real_parity=parity,
            ipv6=ipv6,
        )
        for parity, (name, version) in enumerate(zip(("alice", "bob"), versions, strict=True))
    )
    return Pair(alice, bob)


def shards_differ(pair: Pair, count: int) -> bool:
    """Tells whether the two sit on different shards of dht, relay and onion, each of `count`.

    A client's DHT key names its dht shard and, since libtoxcore uses that key towards relays too,
    its relay shard; the real key is the one that is announced.
    """
    table = SlotTable.even(count)
    alice, bob = pair.both()
    dht_and_relay = table.shard_of(alice.dht_id) != table.shard_of(bob.dht_id)
    onion = table.shard_of(alice.public_key) != table.shard_of(bob.public_key)
    return dht_and_relay and onion


def connect(node: Address, *clients: Client, udp: bool) -> None:
    """Tells the clients of the node, and waits until each says it is connected.

    Which transport the library names there says little: on loopback it has no node outside the
    local network, and so always calls itself connected over TCP. A friend's status tells.
    """
    for client in clients:
        client.meet(node.host, node.udp_port, node.tcp_port, node.key, udp=udp)
    wait_until(
        lambda: all(client.connection for client in clients),
        f"connected: {[client.name for client in clients]}",
        CONNECT_TIMEOUT_S,
    )


def ask(pair: Pair) -> None:
    """Has alice ask bob for his friendship."""
    number = pair.alice.call("friend_add", address=pair.bob.address, text="it is alice")
    pair.alices_number = int(number)


def befriend(*pairs: Pair) -> None:
    """Has each alice ask her bob, who accepts; waits until all pairs are online."""
    for pair in pairs:
        ask(pair)
    wait_until(
        lambda: all(pair.bob.requests for pair in pairs),
        "the friend requests arrive through the onion",
        FRIENDS_TIMEOUT_S,
    )
    for pair in pairs:
        key, text = pair.bob.requests[0]
        assert bytes.fromhex(key) == pair.alice.public_key
        assert text == "it is alice"
        pair.bobs_number = int(pair.bob.call("friend_accept", key=key))
    wait_until(
        lambda: all(pair.are_friends() for pair in pairs),
        "the friends see each other online",
        FRIENDS_TIMEOUT_S,
    )


def chat(*pairs: Pair) -> None:
    """Has both of each pair send their messages, and checks that each came once, in order."""
    texts: dict[str, list[str]] = {}
    sides = [side for pair in pairs for side in pair.sides()]
    for client, number in sides:
        texts[client.address] = [f"{client.name} says {i}" for i in range(MESSAGES)]
        client.call("send", friend=number, texts=texts[client.address])
    wait_until(
        lambda: all(client.receipts[number] >= MESSAGES for client, number in sides),
        f"receipts for {MESSAGES} messages each way",
        CHAT_TIMEOUT_S,
    )
    for pair in pairs:
        assert pair.alice.texts[pair.alices_number] == texts[pair.bob.address]
        assert pair.bob.texts[pair.bobs_number] == texts[pair.alice.address]


def send_file(*pairs: Pair) -> None:
    """Has each alice send her bob a file, and checks what arrived against its hash."""
    seed = 20_718
    digest = sha256(Random(seed).randbytes(FILE_SIZE)).hexdigest()
    for pair in pairs:
        sent = pair.alice.call("send_file", friend=pair.alices_number, size=FILE_SIZE, seed=seed)
        assert sent == digest
    wait_until(lambda: all(pair.bob.files for pair in pairs), "the file arrives", FILE_TIMEOUT_S)
    for pair in pairs:
        assert pair.bob.files == [(FILE_SIZE, digest)]
