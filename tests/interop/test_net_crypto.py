"""Our sessions with clients of libtoxcore, over UDP on loopback, without DHT or onion."""

import random
import time

import pytest

from tests.interop import peers
from tests.interop.conftest import MakeClient
from tests.interop.driver import Client, wait_until
from tests.net_crypto.real import ONLINE, FileIn, FileOut, MortalPerson, RealPerson

pytestmark = pytest.mark.interop
VERSIONS = (peers.OLD, peers.NEW)


def meet(
    make_client: MakeClient, version: str, us: RealPerson | None = None
) -> tuple[RealPerson, Client]:
    """A session between us and a client that has us as a friend already."""
    client, us = make_client(version), us or RealPerson()
    client.call("friend_accept", key=us.real.public.hex())
    us.meet(client.public_key, client.dht_id, client.port)
    assert us.pump(lambda: us.is_up, 10), us.drops
    us.send(ONLINE)
    assert us.pump(lambda: client.friends.get(0) == 2, 10), client.story()
    return us, client


@pytest.mark.parametrize("version", VERSIONS)
def test_a_thousand_messages_each_way_in_order_with_receipts(
    make_client: MakeClient, version: str
) -> None:
    us, client = meet(make_client, version)
    ours = [f"message {number}" for number in range(1000)]
    theirs = [f"text {number}" for number in range(1000)]
    client.call("send", friend=0, texts=theirs)
    last = [us.send(b"\x40" + text.encode()) for text in ours][-1]
    assert last is not None

    def received() -> list[str]:
        return [data[1:].decode() for data in us.taken if data[0] == 0x40]

    assert us.pump(lambda: len(received()) == 1000 and len(client.texts[0]) == 1000, 60)
    assert us.pump(lambda: us.acknowledged_to >= last and client.receipts[0] == 1000, 30)
    assert received() == theirs
    assert client.texts[0] == ours
    assert client.losses[0] == 0


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_a_file_each_way_byte_for_byte(make_client: MakeClient, version: str, loss: float) -> None:
    us, client = meet(make_client, version)
    chance = random.Random(7)
    us.lose = lambda: chance.random() < loss
    size = 10_000_000 if not loss else 1_000_000
    out = FileOut(us, random.Random(1).randbytes(size))
    assert us.pump(lambda: client.files, 120), (client.progress, us.drops)
    assert client.files == [(size, out.digest)]
    back = FileIn(us)
    digest = client.call("send_file", friend=0, size=size, seed=2)
    assert us.pump(back.is_whole, 120), (back.received, us.drops)
    assert back.digest() == digest


@pytest.mark.parametrize("version", VERSIONS)
def test_custom_packets_lossless_and_lossy(make_client: MakeClient, version: str) -> None:
    us, client = meet(make_client, version)
    assert us.friend is not None
    us.send(b"\xa0 lossless")
    us.pump(lambda: False, 0.1)
    assert us.crypto.send_lossy(us.friend, b"\xfe lossy", time.monotonic())
    assert us.pump(lambda: len(client.told("packet")) == 2, 5)
    client.call("send_packet", friend=0, data=b"\xbf back".hex(), lossless=True)
    client.call("send_packet", friend=0, data=b"\xc8 back".hex(), lossless=False)
    assert us.pump(lambda: b"\xbf back" in us.taken and us.lossy_taken == [b"\xc8 back"], 5)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_a_client_notices_nothing_when_our_process_is_killed_again_and_again(
    make_client: MakeClient, version: str, loss: float
) -> None:
    """Texts both ways, each once and in order; the session stays, and so does the way it has."""
    us = MortalPerson()
    _, client = meet(make_client, version, us)
    chance = random.Random(f"{version}/{loss}")
    us.lose = lambda: chance.random() < loss
    ours = [f"message {number}" for number in range(1000)]
    theirs = [f"text {number}" for number in range(1000)]

    def received() -> list[str]:
        return [data[1:].decode() for data in us.taken if data[0] == 0x40]

    kills = 0
    for number in range(0, 1000, 20):
        client.call("send", friend=0, texts=theirs[number : number + 20])
        for text in ours[number : number + 20]:
            us.give(b"\x40" + text.encode())
        us.hand_down()
        us.pump(lambda: False, chance.random() * 0.1)
        us.die()
        kills += 1
    begin = time.monotonic()
    while len(received()) < 1000 or len(client.texts[0]) < 1000 or us.delivered() < 1000:
        us.hand_down()
        us.pump(lambda: False, 0.1)
        assert time.monotonic() < begin + 30, (len(received()), len(client.texts[0]), us.drops)
    assert received() == theirs
    assert client.texts[0] == ours
    assert us.pump(lambda: client.receipts[0] == 1000, 10)
    assert kills == 50
    assert client.losses[0] == 0
    assert us.is_up


def test_a_file_comes_whole_while_our_process_is_killed_again_and_again(
    make_client: MakeClient,
) -> None:
    us = MortalPerson()
    _, client = meet(make_client, peers.OLD, us)
    back = FileIn(us)
    size = 10_000_000
    digest = client.call("send_file", friend=0, size=size, seed=2)
    begin = time.monotonic()
    kills = 0
    while not back.is_whole():
        us.pump(back.is_whole, 0.05)
        us.hand_down()
        us.die()
        kills += 1
        assert time.monotonic() < begin + 60, (back.received, us.drops)
    assert back.digest() == digest
    assert client.losses[0] == 0
    assert kills > 5


def test_an_idle_session_stays_and_stays_direct(make_client: MakeClient) -> None:
    us, client = meet(make_client, peers.OLD)
    us.pump(lambda: False, 18)  # more than twice what UDP lives without a packet
    assert us.is_up
    assert us.directs == [True]
    assert client.losses[0] == 0
    assert client.friends[0] == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_who_goes_says_so_and_comes_back(make_client: MakeClient, version: str) -> None:
    us, client = meet(make_client, version)
    assert us.friend is not None
    us.crypto.close(us.friend, time.monotonic())
    wait_until(lambda: client.friends[0] == 0, "the client sees us gone", 5)
    us.is_up = False
    us.meet(client.public_key, client.dht_id, client.port)
    assert us.pump(lambda: us.is_up, 10)
    us.send(ONLINE)
    assert us.pump(lambda: client.friends[0] == 2, 10)
