"""What dht.0 tells the shards and takes back from them, and how a node joins the network."""

import pytest

from core.dht.joining import Joining
from core.endpoint import Endpoint
from core.messages import Bootstrap, TableChange, TableFull, TableWanted
from core.module import NodeOptions
from tests.dht.actors import QUIET, good_friend, introduce, keeper_of, module_of, public
from tests.dht.test_keeper import heard
from tests.simulation import Node, World


@pytest.fixture
def world() -> World:
    return World(seed=1, latency=(0.01, 0.01))


@pytest.fixture
def node(world: World) -> Node:
    return world.add_node("node")


# What dht.0 tells


def test_a_change_reaches_every_shard_within_50_ms_and_a_full_table_whoever_wants_it() -> None:
    world = World(seed=1, roles={"dht": 3}, latency=(0.01, 0.01))
    node = world.add_node("node")
    friend = good_friend(world, "friend")
    friend.send(node.endpoint, friend.sealed(0x00, node.key, b"\x00pingping"))
    assert world.run_until(lambda: len(keeper_of(node).close), limit=10.0, every=0.01)
    world.run_for(0.051)
    for shard in range(3):
        assert friend.key in module_of(node, shard).snapshot_of_table.rows
    node.restart_shard("dht", 2)
    world.run_for(0.001)
    assert friend.key in module_of(node, 2).snapshot_of_table.rows


def test_a_shard_that_missed_a_change_asks_for_the_table(world: World) -> None:
    node = world.add_node("sharded", roles={"dht": 2})
    world.run_for(1.0)
    version = module_of(node, 1).snapshot_of_table.version
    assert version is not None
    late = TableChange(version + 2, node.key, (), ())
    module_of(node, 1).handle_message(late, world.now)
    assert module_of(node, 1).snapshot_of_table.version is None
    world.run_for(0.1)
    assert module_of(node, 1).snapshot_of_table.version == version


def test_a_restarted_table_takes_the_last_copy_back_and_checks_it() -> None:
    world = World(seed=1, roles={"dht": 2})
    first = world.add_node()
    for _ in range(12):
        world.add_node(bootstrap=[first])
    world.run_for(60.0)
    known = set(module_of(first, 1).snapshot_of_table.rows)
    assert len(known) >= 8
    first.restart_shard("dht", 0)
    world.run_for(0.1)
    for shard in range(2):
        assert set(module_of(first, shard).snapshot_of_table.rows) >= known
    world.run_for(200.0)  # all were checked, so all are still there
    assert set(module_of(first, 1).snapshot_of_table.rows) >= known


def test_a_copied_node_that_is_gone_is_forgotten_after_its_check() -> None:
    world = World(seed=1, roles={"dht": 2})
    node = world.add_node()
    friend = good_friend(world, "friend")
    introduce(world, friend, node)
    world.run_for(5.0)
    world.remove(friend)
    node.restart_shard("dht", 0)
    world.run_for(30.0)
    assert friend.key in module_of(node, 1).snapshot_of_table.rows
    world.run_for(40.0)  # it counted as seen 62 s before
    assert friend.key not in module_of(node, 1).snapshot_of_table.rows


def test_a_copy_that_nobody_waits_for_or_of_another_identity_is_ignored(
    world: World, node: Node
) -> None:
    rows = ((b"\x07" * 32, public(7), b"", False, False),)
    world.run_for(1.0)
    module_of(node).handle_message(TableFull(1, node.key, rows), world.now)
    assert len(keeper_of(node).close) == 0
    world.run_for(10.0)
    node.restart_shard("dht", 0)
    world.run_for(0.1)
    module_of(node).handle_message(TableFull(1, b"\x08" * 32, rows), world.now)
    assert len(keeper_of(node).close) == 0
    module_of(node).handle_message(TableFull(1, node.key, rows), world.now)
    assert len(keeper_of(node).close) == 1


def test_a_wish_for_the_table_waits_until_the_copies_had_their_time(world: World) -> None:
    node = world.add_node("sharded", roles={"dht": 2})
    world.run_for(10.0)
    node.restart_shard("dht", 0)
    node.restart_shard("dht", 1)
    world.run_for(1.5)
    assert module_of(node, 1).snapshot_of_table.version is None  # nobody has a copy
    world.run_for(1.5)
    assert module_of(node, 1).snapshot_of_table.version is not None
    module_of(node).handle_message(TableWanted("stranger", 0), world.now)


# Joining


def test_bootstrap_nodes_are_asked_again_with_growing_pauses_while_nobody_answers(
    world: World,
) -> None:
    silent = world.add_peer("silent")
    log = heard(world, silent)
    options = NodeOptions(lan_discovery=False, bootstrap=((silent.endpoint, silent.key),))
    world.add_node("node", options=options)
    world.run_for(140.0)
    times = [round(when - 100.0) for when, _ in log]
    assert times == [0, 5, 15, 35, 75, 135]


def test_a_node_does_not_bootstrap_from_itself(world: World) -> None:
    keys = world.keys("self")
    here = public(5)
    options = NodeOptions(lan_discovery=False, bootstrap=((here, bytes(keys.public)),))
    node = world.add_node("self", keys=keys, endpoint=here, options=options)
    world.run_for(3.0)
    assert world.kinds[0x02] == 0
    assert node.drops()["dht_own_key"] == 1


def test_bootstrap_nodes_whose_names_were_looked_up_later_are_asked_at_once(
    world: World, node: Node
) -> None:
    world.run_for(3.0)
    late = good_friend(world, "late")
    module_of(node).handle_message(Bootstrap(((late.endpoint, late.key),)), world.now)
    node.wake("dht")
    world.run_for(1.0)
    assert late.key in keeper_of(node).close.by_key


def test_saved_nodes_bring_a_node_back_without_bootstrap_nodes() -> None:
    world = World(seed=1)
    first = world.add_node()
    for _ in range(20):
        world.add_node(bootstrap=[first])
    world.run_for(60.0)
    saved = tuple((Endpoint(e), k) for e, k in module_of(world.nodes[5]).nodes_to_save())
    assert len(saved) >= 10
    world.nodes[5].stop()
    options = NodeOptions(lan_discovery=False, saved_nodes=saved)
    back = world.add_node("back", options=options)
    world.run_for(30.0)
    assert len(module_of(back).snapshot_of_table.rows) >= 10


def test_saved_nodes_are_asked_eight_a_second_until_one_outside_answers(world: World) -> None:
    saved = tuple((public(n), bytes((n,)) * 32) for n in range(1, 21))
    joining = Joining(NodeOptions(saved_nodes=saved))
    assert joining.step(False, False, 0.0) == list(saved[:8])
    assert joining.next_step(0.0, 99.0) == 1.0
    assert joining.step(False, False, 1.0) == list(saved[8:16])
    assert joining.step(True, False, 2.0) == list(saved[16:]) + list(saved[:4])
    assert joining.step(True, True, 3.0) == []
    assert joining.unused() == []
    assert joining.next_step(3.0, 10.0) == 18.0
    assert joining.next_step(3.0, 99.0) == 99.0  # before that no node can have gone bad


def test_saved_nodes_are_saved_again_while_none_of_them_answered(world: World) -> None:
    saved = ((public(1), b"\x01" * 32),)
    options = NodeOptions(lan_discovery=False, saved_nodes=saved)
    node = world.add_node("node", options=options)
    world.run_for(5.0)
    assert module_of(node).nodes_to_save() == saved


def test_bootstrap_nodes_are_bounded() -> None:
    joining = Joining(QUIET)
    joining.add((public(n), n.to_bytes(32, "big")) for n in range(400))
    assert len(joining.step(False, False, 0.0)) == 256
    joining.add([(public(500), bytes(32))])
    assert len(joining.step(False, False, 1.0)) == 0
