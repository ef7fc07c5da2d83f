"""The nodes that the identities of one process know together."""

import random
from collections import Counter

from core.crypto import PublicKey, SharedKeys
from core.dht.host_table import HostTable
from core.dht.light import LightDht
from core.dht.lists import NEAR_NODES
from core.dht.snapshot import NodeSnapshot
from core.endpoint import Endpoint, from_text
from core.entropy import SeededEntropy
from core.identity.neighbours import Neighbours
from core.messages import NodeRow, TableChange, TableFull
from core.packets.nodes import NodeInfo
from tests.dht.test_light import OPTIONS
from tests.simulation import Node, World
from tests.simulation.dweller import Dweller

OWN, OTHER = bytes([0x55]) * 32, bytes([0xAA]) * 32


def row(key: bytes, number: int, announces: bool = False) -> NodeRow:
    address = "192.168.1.7" if number % 5 == 0 else f"203.0.{number % 200}.{number % 250}"
    return NodeRow(key, from_text(address, 1000 + number), b"", False, announces)


def change(
    own: bytes, version: int, rows: list[NodeRow], removed: tuple[bytes, ...] = ()
) -> TableChange:
    return TableChange(version, own, tuple(rows), removed)


def test_it_names_the_same_nodes_as_a_table_of_one_node() -> None:
    chance = random.Random(5)
    for count in (0, 1, 3, 40, 300):
        host = HostTable(SeededEntropy("host"))
        hosted, plain = host.join(OWN), NodeSnapshot(OWN)
        rows = [row(chance.randbytes(32), n, n % 3 == 0) for n in range(count)]
        for snapshot in (hosted, plain):
            snapshot.handle_full(TableFull(0, OWN, ()))
            assert snapshot.handle_change(change(OWN, 1, rows))
        targets = [chance.randbytes(32) for _ in range(60)] + [each.key for each in rows[:20]]
        for target in targets:
            for to_lan in (False, True):
                for announcers in (False, True):
                    asked = target, to_lan, announcers
                    assert hosted.closest_packed(*asked) == plain.closest_packed(*asked)


def test_a_node_stays_until_the_last_one_who_knows_it_forgets_it_and_stands_there_once() -> None:
    host = HostTable(SeededEntropy("host"))
    one, two = host.join(OWN), host.join(OTHER)
    key = bytes([7]) * 32
    for snapshot, announces in ((one, True), (two, False)):
        snapshot.handle_full(TableFull(0, snapshot.own_key, ()))
        snapshot.handle_change(change(snapshot.own_key, 1, [row(bytes(key), 3, announces)]))
    assert len(host) == 1
    assert [found.announces for found in two.closest(key, 4, True)] == [True]  # what one learned
    assert host.same(bytes(bytearray(key)), from_text("203.0.3.3", 1003))[0] is one.rows[key].key
    one.handle_change(change(OWN, 2, [], (key,)))
    assert one.closest(key, 4, False)
    host.leave(two)
    assert len(host) == 0
    assert not one.closest(key, 4, False)


def test_an_identity_never_names_itself_and_others_of_the_process_are_no_path_nodes() -> None:
    host = HostTable(SeededEntropy("host"))
    one, two = host.join(OWN), host.join(OTHER)
    for snapshot in (one, two):
        snapshot.handle_full(TableFull(0, snapshot.own_key, ()))
    one.handle_change(change(OWN, 1, [row(OTHER, 2)]))
    two.handle_change(change(OTHER, 1, [row(OWN, 1)]))
    assert [found.key for found in one.closest(OWN, 4, True)] == [OTHER]
    assert {node.key for node in host.path_nodes(8)} == {OWN, OTHER}  # there is nobody else
    strangers = {bytes([n]) * 32 for n in range(20)}
    one.handle_change(change(OWN, 2, [row(key, 8) for key in sorted(strangers)]))
    for _ in range(20):
        chosen = [node.key for node in host.path_nodes(8)]
        assert set(chosen) <= strangers
        assert len(set(chosen)) == len(chosen) > 0
    host.leave(two)
    two_again = host.join(bytes([9]) * 31 + b"\x01")
    assert not two_again.rows


class Hosted:
    """An identity's node of the DHT, one of several in a process."""

    def __init__(self, world: World, name: str, host: HostTable) -> None:
        keys = world.keys(name)
        self.key = bytes(keys.public)
        self.home = Dweller(world, name, keys=keys)
        self.found: list[bytes] = []
        self.dht = LightDht(
            keys, SharedKeys(keys.secret), SeededEntropy(name), self.home, self, Counter(),
            OPTIONS, world.now, host,
        )  # fmt: skip
        self.home.move_in(self.dht)

    def address_found(self, dht_key: bytes, endpoint: Endpoint, now: float) -> None:
        self.found.append(dht_key)

    def dht_request(self, sender: bytes, plain: bytes, source: Endpoint, now: float) -> None:
        pass

    def dht_connected(self, connected: bool, now: float) -> None:
        pass


def a_host(world: World, first: Node, count: int) -> tuple[HostTable, list[Hosted]]:
    host = HostTable(SeededEntropy("host"))
    hosted = []
    for number in range(count):
        one = Hosted(world, f"identity {number}", host)
        one.dht.bootstrap([(first.endpoint, first.key)], world.now)
        one.home.plan()
        hosted.append(one)
        world.run_for(1)
    world.run_for(90)
    return host, hosted


def test_each_keeps_its_neighbourhood_alone_and_is_found_there() -> None:
    world = World(seed=11)
    first = world.add_node()
    nodes = [first, *(world.add_node(bootstrap=[first]) for _ in range(39))]
    world.run_for(60)
    host, hosted = a_host(world, first, 12)
    alone = Hosted(world, "a lone one", HostTable(SeededEntropy("lone")))
    alone.dht.bootstrap([(first.endpoint, first.key)], world.now)
    alone.home.plan()
    world.run_for(60)
    keys = [*(node.key for node in nodes), *(one.key for one in hosted)]
    for one in hosted[1:]:
        own = int.from_bytes(one.key, "big")
        others = [key for key in keys if key != one.key]
        near = sorted(others, key=lambda key: int.from_bytes(key, "big") ^ own)
        close = {node.key for node in one.dht.nodes_to_save()}
        assert set(near[: NEAR_NODES // 2]) <= close
        assert NEAR_NODES <= len(close) < 2 * NEAR_NODES
        alone.dht.search(one.key, world.now)
    assert len(hosted[0].dht.nodes_to_save()) > len(hosted[1].dht.nodes_to_save())
    alone.home.plan()
    assert world.run_until(lambda: len(set(alone.found)) == len(hosted) - 1, limit=60)
    ours = set(host.members)
    assert not ours & {node.key for node in hosted[3].dht.path_nodes(world.now)}


def test_those_of_one_process_do_not_ask_each_other_whether_they_live() -> None:
    world = World(seed=12)
    first = world.add_node()
    host, hosted = a_host(world, first, 6)
    ports = {one.home.peer.endpoint for one in hosted}
    asked: list[Endpoint] = []

    def watch(source: Endpoint, to: Endpoint, packet: bytes) -> bool:
        if source in ports and to in ports:
            asked.append(to)
        return True

    world.watch = watch
    world.run_for(300)
    seconds_times_pairs = 300 * 6 * 5
    assert len(asked) < seconds_times_pairs / 60  # half as many as one check a minute each way
    assert all(one.dht.table.rows.keys() >= host.members.keys() - {one.key} for one in hosted)


def test_when_the_first_one_leaves_the_next_looks_for_nodes_everywhere() -> None:
    world = World(seed=13)
    first = world.add_node()
    for _ in range(30):
        world.add_node(bootstrap=[first])
    world.run_for(60)
    _, hosted = a_host(world, first, 3)
    before = len(hosted[1].dht.nodes_to_save())
    hosted[0].dht.leave()
    hosted[0].home.leave()
    world.run_for(120)
    assert len(hosted[1].dht.nodes_to_save()) > before


def test_a_node_in_a_list_of_the_onion_is_the_one_that_the_table_has() -> None:
    neighbours = Neighbours(SeededEntropy("shared"))
    snapshot = neighbours.table.join(OWN)
    known = row(bytes([7]) * 32, 3)
    snapshot.handle_full(TableFull(0, OWN, ()))
    snapshot.handle_change(change(OWN, 1, [known]))
    same = neighbours.path_nodes.same
    kept = same(NodeInfo(PublicKey(known.key), Endpoint(known.endpoint4)))
    assert kept is same(NodeInfo(PublicKey(known.key), Endpoint(known.endpoint4)))
    elsewhere = NodeInfo(PublicKey(known.key), from_text("203.0.113.9", 1))
    assert same(elsewhere) is elsewhere  # what it answers from counts, not what others know
