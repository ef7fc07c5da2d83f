"""Attacks on the table: reflection, made-up answers, eclipse (SECURITY S-14, S-16, S-17)."""

import random

import pytest

from core.dht.distance import number_of
from core.endpoint import Endpoint, from_text, is_lan
from tests.dht.actors import keeper_of, module_of, public
from tests.simulation import World


@pytest.mark.parametrize(("kind", "size", "most"), [(0x00, 9, 2.0), (0x02, 40, 2.9)])
def test_a_spoofed_request_brings_its_victim_little(kind: int, size: int, most: float) -> None:
    """1,000 first contacts from 1,000 addresses; all that goes to them in 120 s is counted."""
    world = World(seed=1)
    node = world.add_node("node")
    for _ in range(30):
        world.add_node(bootstrap=[node])
    world.run_for(60.0)
    assert len(module_of(node).snapshot_of_table.rows) >= 15
    victims = {public(number): 0 for number in range(1000)}
    times: list[float] = []

    def watch(source: Endpoint, to: Endpoint, packet: bytes) -> bool:
        if source == node.endpoint and to in victims:
            victims[to] += len(packet)
            if packet[0] == 0x00:
                times.append(world.now)
        return True

    world.watch = watch
    spoofer = world.add_peer("spoofer")
    request = spoofer.sealed(kind, node.key, b"\x00" * size)
    for number, victim in enumerate(victims):
        attacker = world.add_peer(f"attacker{number}", endpoint=from_text("198.51.100.1", 1))
        request = attacker.sealed(kind, node.key, b"\x00" * size)
        module_of(node).handle_packet(request, victim, world.now)
        world.run_for(0.01)
    node.wake("dht")
    world.run_for(120.0)
    assert max(victims.values()) <= most * len(request)
    busiest = max(sum(start <= when < start + 2.0 for when in times) for start in times)
    assert busiest <= 2 * 32  # a window of 2 s may touch two rounds of 32


def test_a_flood_of_made_up_answers_changes_nothing() -> None:
    world = World(seed=1)
    node = world.add_node("node")
    for _ in range(10):
        world.add_node(bootstrap=[node])
    world.run_for(30.0)
    before = dict(module_of(node).snapshot_of_table.rows)
    chance = random.Random(1)
    for _ in range(20_000):
        kind = chance.choice((0x01, 0x04, 0x94))
        packet = bytes((kind,)) + chance.randbytes(chance.choice((81, 120, 200, 285)))
        module_of(node).handle_packet(packet, public(chance.randrange(999)), world.now)
    assert module_of(node).snapshot_of_table.rows == before
    drops = node.drops()
    sizes = sum(drops[f"dht_{what}_size"] for what in ("ping", "nodes", "search"))
    assert drops["dht_unasked"] + sizes >= 20_000


@pytest.mark.no_cover  # three times as long with it; smaller tests run the same lines
@pytest.mark.parametrize("prefix", ["one address", "one /24"])
def test_attackers_of_one_prefix_get_at_most_a_quarter_of_the_table(prefix: str) -> None:
    """200 honest nodes; 2,000 attackers, keys ground towards the target, who answer everything."""
    world = World(seed=5, roles={"dht": 1})
    target = world.add_node("target")
    for _ in range(199):
        world.add_node(bootstrap=[target])
    world.run_for(22.0)
    keeper = keeper_of(target)
    honest = set(keeper.close.by_key)
    chance = random.Random(3)
    attackers: set[bytes] = set()
    for number in range(2000):
        bits = chance.randrange(24)  # the work of grinding so many bits is in anybody's reach
        near = number_of(target.key) ^ 1 << 255 - bits ^ chance.randrange(1 << 255 - bits)
        key = near.to_bytes(32, "big")
        attackers.add(key)
        last = 1 if prefix == "one address" else 1 + number % 254
        endpoint = from_text(f"203.0.113.{last}", 1024 + number)
        assert not is_lan(endpoint)
        # An attacker answers: what its ping or nodes answer would do.
        keeper._answered(key, endpoint, world.now)
    mine = set(keeper.close.by_key)
    assert 0 < len(mine & attackers) <= 0.25 * len(mine)
    assert honest <= mine  # no verified node was displaced
    for search in keeper.searches.values():
        assert sum(client.key in attackers for client in search.clients) <= 2


@pytest.mark.no_cover
def test_a_search_for_an_honest_node_succeeds_among_many_nodes_of_one_prefix() -> None:
    world = World(seed=6)
    first = world.add_node("first")
    for _ in range(60):
        world.add_node(bootstrap=[first])
    world.run_for(40.0)
    wanted = world.nodes[-1]
    for number in range(40):  # they obey the protocol, and there are nearly as many as others
        world.add_node(
            f"attacker{number}",
            endpoint=from_text(f"203.0.113.{number + 1}", 33445),
            bootstrap=[first],
        )
    world.run_for(40.0)
    searcher = world.nodes[7]
    keeper_of(searcher).add_search(wanted.key, world.now)
    searcher.wake("dht")
    assert world.run_until(
        lambda: keeper_of(searcher).address_of(wanted.key, world.now) == wanted.endpoint, limit=60.0
    )
