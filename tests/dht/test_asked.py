"""What operators see of the table, and lookups that they watch."""

import random
from typing import Any

import pytest

from core.asking import CannotAnswer
from core.dht.diversity import by_distance, by_prefix, chance_of, signs
from core.dht.lookups import LIFE_S, MAX_LOOKUPS, SILENT_S
from core.endpoint import Endpoint, from_text, to_text
from tests.dht.actors import good_friend, introduce, keeper_of, module_of, packed, public
from tests.ops import shapes
from tests.ops.schema import differences
from tests.simulation import Node, World


@pytest.fixture(scope="module")
def town() -> World:
    """Forty nodes that know each other."""
    world = World(seed=4)
    first = world.add_node("node")
    for number in range(39):
        endpoint = from_text(f"{23 + 3 * number}.1.1.1", 33445)
        world.add_node(bootstrap=[first], endpoint=endpoint)
    world.run_for(120.0)
    return world


def known(world: World, node: Node) -> list[Node]:
    """Returns the nodes that a node gives to others: all that are good in one of its lists."""
    rows = module_of(node).snapshot_of_table.rows
    return [other for other in world.nodes if other.key in rows]


def ask(node: Node, what: str, **args: Any) -> dict[str, Any]:
    """Asks dht.0 of a node, and compares the answer with its description."""
    answer: dict[str, Any] = module_of(node).ask(what, args, node.world.now)
    if what in shapes.REQUESTS:
        assert differences(shapes.REQUESTS[what].answer, answer) == []
        assert set(args) <= set(shapes.REQUESTS[what].arguments)
    node.wake("dht")
    return answer


def events(node: Node, name: str = "lookup") -> list[dict[str, Any]]:
    """Returns what a follower was told since the last call."""
    rows, lost = node.contexts["dht", 0].events.take()
    assert lost == 0
    found = [data for event, data in rows if event == name]
    for data in found:
        assert differences(shapes.EVENTS[name].answer, {"from": "dht.0", **data}) == []
    return found


def refusal(node: Node, what: str, **args: Any) -> str:
    with pytest.raises(CannotAnswer) as refused:
        ask(node, what, **args)
    return refused.value.code


def test_all_known_nodes_are_shown_the_nearest_first(town: World) -> None:
    node = town.nodes[0]
    answer = ask(node, "dht show", limit=10_000)
    places = {other.key.hex().upper(): to_text(other.endpoint) for other in known(town, node)}
    assert {row["key"]: row["address"] for row in answer["rows"]} == places
    assert 16 < len(places) == answer["total"] == answer["shown"]
    bits = [row["shared_bits"] for row in answer["rows"]]
    assert bits == sorted(bits, reverse=True)
    for row in answer["rows"]:
        assert row["state"] == "good"
        assert 20.0 <= row["rtt_ms"] <= 120.0  # twice the latency of this network
        assert 0.0 <= row["heard_s"] <= 122.0
        assert row["family"] == "ipv4"
    assert ask(node, "dht show", limit=3)["rows"] == answer["rows"][:3]


def test_nodes_are_sorted_and_chosen_as_asked(town: World) -> None:
    node = town.nodes[0]
    for order, field in (("heard", "heard_s"), ("rtt", "rtt_ms")):
        found = [row[field] for row in ask(node, "dht show", sort=order)["rows"]]
        assert found == sorted(found)
    addresses = [row["address"] for row in ask(node, "dht show", sort="address")["rows"]]
    assert addresses == sorted(addresses, key=lambda text: [int(n) for n in text[:-6].split(".")])
    close = ask(node, "dht show", list="close")
    assert close["total"] == len(keeper_of(node).close)
    assert all("close" in row["lists"] for row in close["rows"])
    assert ask(node, "dht show", list="search")["total"] == 0
    assert ask(node, "dht show", list="random")["total"] > 0
    assert ask(node, "dht show", state="bad")["total"] == 0
    for wrong in ({"sort": "size"}, {"list": 3}, {"state": "ugly"}, {"limit": 0}):
        assert refusal(node, "dht show", **wrong) == "usage"


def test_silent_nodes_are_shown_as_bad_and_then_as_given_up() -> None:
    world = World(seed=1)
    node = world.add_node("node")
    friend = good_friend(world, "friend")
    other = good_friend(world, "other")
    introduce(world, friend, node)
    introduce(world, other, node)
    friend.handler = None
    world.run_for(125.0)
    rows = {row["key"]: row for row in ask(node, "dht show", sort="state")["rows"]}
    assert [row["state"] for row in rows.values()] == ["good", "bad"]
    assert rows[friend.key.hex().upper()]["heard_s"] > 122
    world.run_for(60.0)
    assert [row["state"] for row in ask(node, "dht show", sort="state")["rows"]] == [
        "good", "given_up",
    ]  # fmt: skip


def test_the_nearest_to_a_key_are_those_that_the_node_names(town: World) -> None:
    node = town.nodes[0]
    key = random.Random(3).randbytes(32)
    number = int.from_bytes(key, "big")
    answer = ask(node, "dht near", key=key.hex(), limit=6)
    nearest = sorted(known(town, node), key=lambda other: int.from_bytes(other.key, "big") ^ number)
    assert [row["key"] for row in answer["rows"]] == [
        other.key.hex().upper() for other in nearest[:6]
    ]
    assert [row["named_outside"] for row in answer["rows"]] == [True] * 4 + [False] * 2
    for row in answer["rows"]:
        assert row["shared_bits"] + row["distance_bits"] == 256
    assert (answer["total"], answer["shown"]) == (len(nearest), 6)
    exact = ask(node, "dht near", key=nearest[7].key.hex(), limit=1)["rows"][0]
    assert (exact["shared_bits"], exact["distance_bits"]) == (256, 0)
    assert refusal(node, "dht near") == "usage"
    assert refusal(node, "dht near", key="ab") == "usage"


def test_buckets_have_all_close_nodes(town: World) -> None:
    node = town.nodes[0]
    answer = ask(node, "dht buckets")
    assert sum(row["nodes"] for row in answer["rows"]) == answer["close"]
    assert answer["close"] == len(keeper_of(node).close)
    assert answer["rows"][0]["nodes"] == 8
    assert all(row["good"] == row["nodes"] == row["ipv4"] for row in answer["rows"])
    assert [row["kind"] for row in answer["targets"]] == ["random", "random"]
    assert answer["places"] == 1024
    assert answer["given_to_others"] == len(known(town, node))


def test_an_honest_network_gives_no_sign(town: World) -> None:
    for node in town.nodes[:10]:
        answer = ask(node, "dht diversity")
        assert answer["signs"] == []
        count = len(known(town, node))
        assert [answer[name] for name in ("nodes", "ipv4", "ipv6", "local")] == [count, count, 0, 0]
        by_bits = {(row["family"], row["bits"]): row for row in answer["prefixes"]}
        assert by_bits["ipv4", 24]["prefixes"] == by_bits["ipv4", 16]["nodes"] == count
        assert by_bits["ipv6", 48]["nodes"] == 0


def test_what_is_asked_of_another_shard_or_is_unknown_is_refused() -> None:
    world = World(seed=1, roles={"dht": 2})
    node = world.add_node("node")
    assert refusal(node, "dht weather") == "not_found"
    with pytest.raises(CannotAnswer, match=r"ask dht\.0"):
        module_of(node, 1).ask("dht show", {}, world.now)


# Signs


def test_one_prefix_with_many_nodes_is_a_sign() -> None:
    chance = random.Random(2)
    spread = [(chance.randbytes(32), from_text(f"{n}.{n}.1.1", 1)) for n in range(20, 40)]
    crowd = [(chance.randbytes(32), from_text(f"77.5.{n}.1", 1)) for n in range(9)]
    assert signs(by_prefix(spread, 1), []) == []
    found = signs(by_prefix(spread + crowd, 1), [])
    assert [sign["text"] for sign in found] == ["9 of 29 ipv4 nodes (31%) are in 77.5.0.0/16"]
    assert signs(by_prefix(crowd, 1), []) == []  # of nine nodes nothing is said
    one = [(chance.randbytes(32), from_text("77.5.1.1", port)) for port in range(1, 5)]
    found = signs(by_prefix(spread + one, 1), [])
    assert [sign["text"].split()[-1] for sign in found] == ["77.5.1.0/24", "77.5.1.1/32"]
    six = [(key, from_text(f"2001:db8:{n:x}::{n:x}", 1)) for n, (key, _) in enumerate(spread)]
    found = signs(by_prefix(six, 1), [])
    assert [sign["text"].split()[-1] for sign in found] == ["2001:db8::/32"]


def test_prefixes_are_counted_with_the_greatest_first() -> None:
    nodes = [(bytes((n,)) * 32, from_text(f"30.{n % 3}.0.{n}", 1)) for n in range(1, 8)]
    row = next(row for row in by_prefix(nodes, 2) if row["bits"] == 16)
    assert row["prefixes"] == 3
    assert row["top"] == [
        {"prefix": "30.1.0.0/16", "nodes": 3, "share": 0.4286},
        {"prefix": "30.0.0.0/16", "nodes": 2, "share": 0.2857},
    ]
    assert row["greatest_share"] == pytest.approx(3 / 7)


def _distances(chance: random.Random, network: int) -> list[int]:
    """Returns the distances that a close list has of a network of random keys: eight a bucket."""
    rows = [chance.getrandbits(256) for _ in range(network)]
    kept: dict[int, list[int]] = {}
    for row in rows:
        bucket = kept.setdefault(row.bit_length(), [])
        if len(bucket) < 8:
            bucket.append(row)
    return [row for bucket in kept.values() for row in bucket]


@pytest.mark.parametrize("network", [16, 40, 100, 1_000, 10_000])
def test_random_keys_are_seldom_a_sign(network: int) -> None:
    chance = random.Random(network)
    alarms = sum(
        bool(signs([], by_distance(_distances(chance, network))))
        for _ in range(400 if network <= 1_000 else 40)
    )
    assert alarms == 0


@pytest.mark.parametrize(("bits", "keys"), [(30, 1), (24, 2), (17, 8)])
def test_ground_keys_are_a_sign(bits: int, keys: int) -> None:
    chance = random.Random(bits)
    for network in (40, 1_000):
        honest = _distances(chance, network)
        ground = [chance.getrandbits(256 - bits) for _ in range(keys)]
        (sign,) = signs([], by_distance(honest + ground))
        assert sign["what"] == "keys"
    assert by_distance(honest[:15]) == []  # of fifteen nodes nothing is said


def test_the_chance_is_that_of_coins() -> None:
    assert chance_of(2, 2, 0.5) == 0.25
    assert chance_of(1, 3, 0.5) == 0.875
    assert chance_of(0, 3, 0.5) == chance_of(3, 3, 1.0) == 1.0


# Lookups


def run(node: Node, key: bytes, seconds: float = 31.0) -> list[dict[str, Any]]:
    """Looks a key up and returns all that was told."""
    begun = ask(node, "lookup", key=key.hex())
    node.world.run_for(seconds)
    found = events(node)
    assert {row["id"] for row in found} == {begun["id"]}
    assert found[0]["what"] == "started"
    assert len(keeper_of(node).lookups) == 0
    return found


def test_a_lookup_tells_each_step_until_the_node_itself_answers() -> None:
    world = World(seed=5)
    first = world.add_node("first")
    for _ in range(59):
        world.add_node(bootstrap=[first])
    world.run_for(100.0)
    node = world.nodes[50]
    stranger = next(
        other for other in world.nodes if other not in known(world, node) and other is not node
    )
    told = run(node, stranger.key)
    done = told[-1]
    assert (done["what"], done["result"]) == ("done", "found")
    assert done["at_ms"] < 2_000
    assert done["addresses"][0]["address"] == to_text(stranger.endpoint)
    assert done["nearest"][0]["key"] == stranger.key.hex().upper()
    assert done["nearest"][0]["shared_bits"] == 256
    asked = [row for row in told if row["what"] == "asked"]
    answered = [row for row in told if row["what"] == "answered"]
    assert done["asked"] == len(asked)
    assert done["answered"] == len(answered) >= 2
    assert [row["round"] for row in asked] == sorted(row["round"] for row in asked)
    assert len({row["key"] for row in asked}) == len(asked)  # nobody is asked twice
    nearest = [row["nearest_bits"] for row in answered]
    assert nearest == sorted(nearest)
    assert nearest[-1] == 256
    assert any(row["knows_target"] for row in answered)
    assert all(20.0 <= row["rtt_ms"] <= 120.0 for row in answered)
    assert node.drops()["dht_unasked"] == 0


def test_a_lookup_of_a_key_that_nobody_has_converges_on_the_nearest_nodes(town: World) -> None:
    node, *others = town.nodes
    key = random.Random(9).randbytes(32)
    number = int.from_bytes(key, "big")
    before = dict(module_of(node).snapshot_of_table.rows), set(keeper_of(node).searches)
    done = run(node, key)[-1]
    assert done["result"] == "converged"
    assert done["addresses"] == []
    nearest = sorted(others, key=lambda other: int.from_bytes(other.key, "big") ^ number)
    assert [row["key"] for row in done["nearest"]][:4] == [
        other.key.hex().upper() for other in nearest[:4]
    ]
    # nothing of it stays: no search, no punching, and nobody new is given to others
    after = dict(module_of(node).snapshot_of_table.rows), set(keeper_of(node).searches)
    assert after == before


def test_a_node_that_is_named_and_never_answers_is_told_as_named() -> None:
    world = World(seed=1)
    node = world.add_node("node")
    hidden = b"\x42" * 32
    friend = good_friend(world, "friend", b"\x01" + packed(hidden, public(77)))
    introduce(world, friend, node)
    world.run_for(0.1)
    told = run(node, hidden)
    assert [row["what"] for row in told] == [
        "started", "asked", "answered", "asked", "silent", "done",
    ]  # fmt: skip
    assert told[-1]["result"] == "named"
    assert told[-1]["addresses"] == [{"address": to_text(public(77)), "voices": 1}]
    assert told[-1]["at_ms"] < SILENT_S * 1000 + 1_500


def test_a_lookup_that_nobody_answers_says_so() -> None:
    world = World(seed=1)
    node = world.add_node("node")
    assert refusal(node, "lookup", key="00" * 32) == "not_found"  # nobody to begin with
    friend = good_friend(world, "friend")
    introduce(world, friend, node)
    world.run_for(0.1)
    friend.handler = None
    told = run(node, b"\x42" * 32)
    assert told[-1]["result"] == "nobody"
    assert (told[-1]["asked"], told[-1]["silent"], told[-1]["nearest"]) == (1, 1, [])


def test_an_answer_that_comes_late_still_counts() -> None:
    world = World(seed=1)
    node = world.add_node("node")
    quick = good_friend(world, "quick", b"\x01" + packed(b"\x11" * 32, public(5)))
    slow = good_friend(world, "slow")
    for friend in (quick, slow):
        introduce(world, friend, node)
    world.run_for(0.1)

    def dawdle(packet: bytes, source: Endpoint) -> None:
        if packet[0] == 0x02:
            text = slow.opened(0x02)[-1]
            answer = slow.sealed(0x04, packet[1:33], b"\x00" + text[32:])
            world.at(world.now + 2.05, slow.send, source, answer)

    slow.handler = dawdle
    ask(node, "lookup", key=(b"\x42" * 32).hex())
    world.run_for(31.0)
    told = events(node)
    steps = [row["what"] for row in told if row.get("key") == slow.key.hex().upper()]
    assert steps == ["asked", "silent", "answered"]
    assert (told[-1]["answered"], told[-1]["silent"]) == (2, 1)


def test_at_most_eight_lookups_run_and_each_ends_after_thirty_seconds_or_with_its_watcher() -> None:
    world = World(seed=1)
    node = world.add_node("node")
    friend = good_friend(world, "friend")
    introduce(world, friend, node)
    world.run_for(0.1)
    begun = [ask(node, "lookup", key=f"{n:064x}")["id"] for n in range(MAX_LOOKUPS)]
    assert len(set(begun)) == MAX_LOOKUPS
    assert refusal(node, "lookup", key="ff" * 32) == "busy"
    assert ask(node, "lookup end", id=begun[3]) == {"ended": True}
    assert ask(node, "lookup end", id=begun[3]) == {"ended": False}
    ask(node, "lookup", key="ff" * 32)
    world.run_for(1.0)
    told = events(node)
    assert begun[3] not in {row["id"] for row in told}
    assert len({row["id"] for row in told}) == MAX_LOOKUPS


def test_a_lookup_that_is_led_on_and_on_ends_after_thirty_seconds() -> None:
    world = World(seed=1)
    node = world.add_node("node")
    key = b"\x42" * 32
    number = int.from_bytes(key, "big")
    names = sorted(
        (f"peer{n}" for n in range(200)),
        key=lambda name: int.from_bytes(world.keys(name).public, "big") ^ number,
    )
    nodes = b"\x00"
    for n, name in enumerate(names):  # each names the next farther one's neighbour: one nearer
        peer = good_friend(world, name, nodes, public(n))
        nodes = b"\x01" + packed(peer.key, peer.endpoint)
    introduce(world, peer, node)
    world.run_for(0.1)
    begun = ask(node, "lookup", key=key.hex())
    most = 0
    for _ in range(int(begun["seconds"] * 4) - 2):
        world.run_for(0.25)
        (lookup,) = keeper_of(node).lookups.running()
        most = max(most, lookup.waiting())
    world.run_for(1.0)
    (*_, done) = events(node)
    assert (done["result"], done["at_ms"]) == ("timeout", pytest.approx(LIFE_S * 1000, abs=300))
    assert 40 < done["asked"] < 200
    assert 0 < most <= 8
    assert len(keeper_of(node).lookups) == 0


# Changes of the close list


def test_followers_are_told_who_comes_goes_falls_silent_and_is_back() -> None:
    world = World(seed=1)
    node = world.add_node("node")
    followed = node.contexts["dht", 0].events
    friend = good_friend(world, "friend")
    introduce(world, friend, node)
    world.run_for(0.1)
    assert events(node, "dht") == []  # nobody follows yet
    followed.follow(["dht"])
    other = good_friend(world, "other")
    introduce(world, other, node)
    world.run_for(10.0)
    place = {"key": other.key.hex().upper(), "address": to_text(other.endpoint)}
    assert events(node, "dht") == [{"change": "in", **place, "close": 2}]
    answer, other.handler = other.handler, None
    world.run_for(130.0)
    assert events(node, "dht") == [{"change": "bad", **place, "close": 2}]
    other.handler = answer
    other.send(node.endpoint, other.sealed(0x00, node.key, b"\x00pingping"))
    world.run_for(10.0)
    assert events(node, "dht") == [{"change": "good", **place, "close": 2}]
    keeper_of(node).close.remove(keeper_of(node).close.by_key[other.key])
    assert events(node, "dht") == [{"change": "out", **place, "close": 1}]
    followed.follow([])
    keeper_of(node).close.remove(keeper_of(node).close.by_key[friend.key])
    assert events(node, "dht") == []
