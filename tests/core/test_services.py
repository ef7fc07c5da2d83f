"""Services that are switched: which handlers are exchanged, and what happens to each kind."""

from collections import Counter

import pytest

from core.endpoint import Endpoint, from_text
from core.module import NodeOptions
from core.packets import ROUTES
from core.services import KINDS, LAN, SERVICES, Handler, reason, refusals
from tests.dht.actors import keeper_of
from tests.onion.client import Client
from tests.onion.node import START, Node, address
from tests.simulation import World

HOME = from_text("192.168.1.2", 33445)


def test_no_kind_belongs_to_two_services_and_each_has_an_owner() -> None:
    kinds = [kind for rows in KINDS.values() for kind in rows]
    assert len(set(kinds)) == len(kinds)
    assert set(kinds) <= set(ROUTES)
    assert set(SERVICES) - set(KINDS) == {"relay"}
    onion = {kind for kind, row in ROUTES.items() if row.role == "onion"}
    assert onion <= set(kinds)  # so that a node without any of them is one without onion workers


def test_kinds_of_what_is_off_count_and_all_others_go_on() -> None:
    taken: list[int] = []

    def take(packet: bytes, source: Endpoint, now: float) -> None:
        taken.append(packet[0])

    normal: dict[int, Handler] = dict.fromkeys((0x80, 0x83, 0x93), take)
    drops: Counter[str] = Counter()
    for kind, handler in (normal | refusals(("announce", "forward"), normal, drops)).items():
        handler(bytes((kind,)), HOME, 0.0)
    assert taken == [0x80, 0x93]
    assert drops == {reason("announce"): 1}  # of kinds that are not handled here there is no count
    assert refusals((), normal, drops) == {}


@pytest.mark.parametrize("off", [("data",), ("forward",), ("data", "forward")])
def test_forwarded_requests_for_data_follow_both_services(off: tuple[str, ...]) -> None:
    node = Node("n", address(0), options=NodeOptions(lan_discovery=False, services_off=off))
    asker = Client("asker")
    request = asker.data_search(node.keys.public, asker.data.public)
    node.handle(b"\x91\x05abcde" + request, address(1), START)
    assert node.sent == []
    assert node.drops == {reason("forward" if "forward" in off else "data"): 1}


def test_lan_discovery_ends_and_begins_again() -> None:
    world = World(seed=3)
    on = NodeOptions(lan_discovery=True)
    off = NodeOptions(lan_discovery=False, services_off=(LAN,))
    alice = world.add_node("alice", endpoint=HOME, options=on)
    keeper = keeper_of(alice)
    sent: list[Endpoint] = []

    def beacons(seconds: float) -> int:
        sent.clear()
        world.run_for(seconds)
        return len(sent)

    send = keeper._out.send

    def watched(endpoint: Endpoint, packet: bytes) -> None:
        if packet[0] == 0x21:
            sent.append(endpoint)
        send(endpoint, packet)

    keeper._out.send = watched  # type: ignore[method-assign]  # to see what leaves
    assert beacons(25.0) > 0
    keeper._context.options = off
    keeper.follow_options(world.now)
    assert beacons(25.0) == 0
    keeper._context.options = on
    keeper.follow_options(world.now)
    assert keeper.next_timer() == world.now  # what runs the module looks at that
    keeper.handle_timer(world.now)
    assert sent
    keeper.follow_options(world.now)  # something else was changed: the next beacon has its time
    assert keeper.next_timer() != world.now
