"""The list of the nodes nearest to a key."""

from core.crypto import PublicKey, SharedKey
from core.dht.distance import number_of
from core.endpoint import from_text
from core.onion_client.nodes import NodeList, OnionNode, Remembered
from core.onion_client.paths import Path
from core.packets.nodes import NodeInfo
from tests.onion_client.hand import make_node

TARGET = bytes(32)
SHARED = SharedKey(bytes(32))
NOW = 500.0


def key(distance: int) -> PublicKey:
    """Returns the key that is so far from the target."""
    return PublicKey(distance.to_bytes(32, "big"))


def node(distance: int, host: str = "") -> NodeInfo:
    """Returns a node at that distance, in a /24 of its own unless said otherwise."""
    host = host or f"20.{distance >> 8}.{distance & 255}.1"
    return NodeInfo(key(distance), from_text(host, 33445))


def path() -> Path:
    hops = tuple(make_node(number).info for number in range(3))
    keys = SHARED, SHARED, SHARED
    return Path(0, hops, keys, (hops[0].key, hops[1].key), NOW)


def take(nodes: NodeList, info: NodeInfo, stored: int = 0, now: float = NOW) -> OnionNode | None:
    return nodes.take(info, SHARED, stored, b"k" * 32, path(), now)


def keys_of(nodes: NodeList) -> list[int]:
    """Returns the distances of all that are there."""
    return sorted(number_of(entry.node.key) ^ number_of(TARGET) for entry in nodes.nodes)


def test_the_nearest_stay_and_farther_ones_give_way() -> None:
    nodes = NodeList(TARGET, 4)
    for distance in (50, 40, 30, 20):
        assert take(nodes, node(distance))
    assert nodes.wants(node(45), NOW)
    assert take(nodes, node(45))
    assert not nodes.wants(node(60), NOW)
    assert take(nodes, node(60)) is None
    assert keys_of(nodes) == [20, 30, 40, 45]


def test_a_timed_out_node_gives_way_even_to_a_farther_one() -> None:
    nodes = NodeList(TARGET, 4)
    for distance in (50, 40, 30, 20):
        take(nodes, node(distance))
    dead = nodes.find(key(20))
    assert dead is not None
    dead.unanswered, dead.pinged = 3, NOW
    assert not nodes.wants(node(70), NOW + 14.9)
    assert take(nodes, node(70), now=NOW + 15)
    assert keys_of(nodes) == [30, 40, 50, 70]


def test_one_that_answers_after_its_time_is_new_again() -> None:
    nodes = NodeList(TARGET, 4)
    entry = take(nodes, node(20))
    assert entry is not None
    entry.unanswered, entry.pinged = 3, NOW
    assert nodes.live(NOW + 15) == []
    assert take(nodes, node(20), now=NOW + 20) is entry
    assert (entry.added, entry.unanswered) == (NOW + 20, 0)
    assert nodes.live(NOW + 20) == [entry]


def test_one_network_has_a_quarter_of_the_places_at_most() -> None:
    nodes = NodeList(TARGET, 12)
    for distance in (90, 91, 92):
        assert take(nodes, node(distance, f"20.0.0.{distance}"))
    assert not nodes.wants(node(93, "20.0.0.93"), NOW)
    assert take(nodes, node(93, "20.0.0.93")) is None
    assert nodes.wants(node(10, "20.0.0.10"), NOW)
    assert take(nodes, node(10, "20.0.0.10"))  # a nearer one: in place of the farthest of them
    assert keys_of(nodes) == [10, 90, 91]
    for distance in range(20, 32):
        take(nodes, node(distance, f"192.168.0.{distance}"))  # at home all may be in one network
    assert len(nodes.nodes) == 12


def test_letters_go_where_at_least_a_quarter_knows_the_friend() -> None:
    nodes = NodeList(TARGET, 8)
    assert nodes.storing(NOW) == []
    for distance in range(1, 9):
        take(nodes, node(distance), stored=int(distance == 1))
    assert nodes.storing(NOW) == []  # one of eight: (8 - 1) // 4 + 1 are needed
    take(nodes, node(2), stored=1)
    assert len(nodes.storing(NOW)) == 2
    for entry in nodes.nodes[2:]:
        entry.unanswered, entry.pinged = 3, NOW
    assert len(nodes.storing(NOW + 20)) == 2


def test_nine_named_nodes_are_remembered_for_ten_seconds() -> None:
    remembered = Remembered()
    assert remembered.admit(key(1), NOW)
    assert not remembered.admit(key(1), NOW + 9.9)
    assert remembered.admit(key(1), NOW + 10)
    for distance in range(2, 11):
        assert remembered.admit(key(distance), NOW + 10)
    assert remembered.admit(key(1), NOW + 11)  # forgotten: there is room for nine
