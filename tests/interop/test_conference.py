"""Three unmodified clients that know our node alone hold a conference."""

import pytest

from tests.interop.chat import Pair, befriend, connect
from tests.interop.conftest import MakeClient, MakeNode
from tests.interop.driver import Client, ClientError, wait_until
from tests.interop.peers import NEW, OLD

pytestmark = [pytest.mark.interop, pytest.mark.process, pytest.mark.slow]

_JOIN_TIMEOUT_S = 90
_SPEAK_TIMEOUT_S = 60


def _peers_of(client: Client, conference: int) -> int:
    return int(client.call("conference_peers", conference=conference))


def _speak(client: Client, conference: int, text: str) -> None:
    """Sends into a conference; the library refuses while it has no link to any other peer."""

    def sent() -> bool:
        try:
            return bool(client.call("conference_send", conference=conference, text=text))
        except ClientError:
            return False

    wait_until(sent, f"{client.name} can speak", _SPEAK_TIMEOUT_S)


@pytest.mark.parametrize(
    ("kind", "udp"),
    [("ours", True), ("ours", False), ("bootstrapd", True)],
    ids=["ours-udp", "ours-tcp", "bootstrapd-udp"],
)
def test_three_peers_hold_a_conference(
    make_node: MakeNode, make_client: MakeClient, kind: str, udp: bool
) -> None:
    node = make_node(kind, workers="dht=2,onion=2,relay=2")
    alice = make_client(NEW, name="alice", udp=udp, dht_parity=0)
    bob = make_client(OLD, name="bob", udp=udp, dht_parity=1)
    carol = make_client(OLD, name="carol", udp=udp, dht_parity=1)
    connect(node, alice, bob, carol, udp=udp)
    with_bob, with_carol = Pair(alice, bob), Pair(alice, carol)
    befriend(with_bob, with_carol)

    conference = int(alice.call("conference_new"))
    for pair in (with_bob, with_carol):
        alice.call(
            "conference_invite", friend=pair.alices_number, conference=conference
        )
    wait_until(lambda: bool(bob.invites and carol.invites), "both are invited", _JOIN_TIMEOUT_S)
    places = {alice: conference}
    for guest in (bob, carol):
        friend, cookie = guest.invites[0]
        places[guest] = int(guest.call("conference_join", friend=friend, cookie=cookie))
    wait_until(
        lambda: all(_peers_of(client, place) == 3 for client, place in places.items()),
        "each sees three peers",
        _JOIN_TIMEOUT_S,
    )

    for client, place in places.items():
        _speak(client, place, f"{client.name} speaks")
    everything = {f"{client.name} speaks" for client in places}
    wait_until(
        lambda: all(
            set(client.conferences[place]) == everything for client, place in places.items()
        ),
        "each hears all three",
        _SPEAK_TIMEOUT_S,
    )
