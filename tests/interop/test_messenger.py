"""Our messenger with clients of libtoxcore: friend connection, presence, messages, files."""

import random
import time

import pytest

from core.crypto import PublicKey
from core.messenger.events import (
    ConnectionChanged,
    Control,
    CustomPacket,
    FileControlled,
    FileEnded,
    FileKind,
    FileOffer,
    Message,
    MessageKind,
    NameChanged,
    Outcome,
    Receipt,
    StatusChanged,
    StatusMessageChanged,
    Typing,
)
from core.savedata.profile import UserStatus
from tests.interop import peers
from tests.interop.conftest import MakeClient
from tests.interop.driver import Client
from tests.messenger.real import RealMessenger, digests

pytestmark = pytest.mark.interop
VERSIONS = (peers.OLD, peers.NEW)
both = pytest.mark.parametrize("version", VERSIONS)


def meet(make_client: MakeClient, version: str) -> tuple[RealMessenger, Client, PublicKey]:
    """Makes us and a client friends that are online."""
    client, us = make_client(version), RealMessenger()
    client.call("friend_accept", key=us.real.public.hex())
    key = us.find(client.public_key, client.dht_id, client.port)
    assert us.pump(lambda: client.friends.get(0) == 2, 15), (us.events, us.drops)
    assert us.pump(lambda: us.told(ConnectionChanged), 5)
    return us, client, key


def now() -> float:
    """Returns the clock of all this."""
    return time.monotonic()


@both
def test_name_status_message_status_and_typing_each_way(
    make_client: MakeClient, version: str
) -> None:
    us, client, key = meet(make_client, version)
    assert us.pump(lambda: client.told("name", text="ours"), 5)
    us.messenger.set_name("Ours 2", now())
    us.messenger.set_status_message("a status ☂", now())
    us.messenger.set_status(UserStatus.BUSY, now())
    us.messenger.set_typing(key, True, now())
    assert us.pump(
        lambda: (
            client.told("name", text="Ours 2")
            and client.told("status_message", text="a status ☂")
            and client.told("status", status=2)
            and client.told("typing", typing=True)
        ),
        5,
    ), client.story()
    client.call("set_name", name="Theirs ☂")
    client.call("set_status_message", text="theirs")
    client.call("set_status", status=1)
    client.call("set_typing", friend=0, typing=True)
    assert us.pump(lambda: us.told(Typing) and us.told(StatusChanged), 5)
    assert us.pump(lambda: us.told(NameChanged) and us.told(StatusMessageChanged), 5)
    assert us.told(NameChanged)[-1].name == "Theirs ☂"
    assert us.told(StatusMessageChanged)[-1].text == "theirs"
    assert us.told(StatusChanged)[-1].status is UserStatus.AWAY


@both
def test_a_thousand_messages_each_way_with_receipts(make_client: MakeClient, version: str) -> None:
    us, client, key = meet(make_client, version)
    theirs = [f"text {number}" for number in range(1000)]
    client.call("send", friend=0, texts=theirs)
    sent = [
        us.messenger.send_message(key, MessageKind.NORMAL, f"message {number}", now())
        for number in range(1000)
    ]
    assert us.pump(lambda: len(us.told(Message)) == 1000 and len(client.texts[0]) == 1000, 60)
    assert us.pump(lambda: len(us.told(Receipt)) == 1000 and client.receipts[0] == 1000, 30)
    assert [one.message for one in us.told(Receipt)] == sent
    assert [one.text for one in us.told(Message)] == theirs
    assert client.texts[0] == [f"message {number}" for number in range(1000)]


@both
def test_custom_packets_each_way(make_client: MakeClient, version: str) -> None:
    us, client, key = meet(make_client, version)
    us.messenger.send_custom(key, b"\xa0 lossless", now())
    us.messenger.send_custom(key, b"\xfe lossy", now())
    assert us.pump(lambda: len(client.told("packet")) == 2, 5)
    client.call("send_packet", friend=0, data=b"\xbf back".hex(), lossless=True)
    client.call("send_packet", friend=0, data=b"\xc8 back".hex(), lossless=False)
    assert us.pump(lambda: len(us.told(CustomPacket)) == 2, 5)


@both
def test_a_large_file_each_way_at_once(make_client: MakeClient, version: str) -> None:
    us, client, key = meet(make_client, version)
    data = random.Random(1).randbytes(5_000_000)
    us.offer(key, data, len(data))
    digest = client.call("send_file", friend=0, size=4_000_000, seed=2)
    assert us.pump(lambda: client.files and len(us.told(FileEnded)) == 2, 120), us.drops
    assert client.files == [(len(data), *digests([data]))]
    assert digests(list(us.received.values())) == [digest]
    assert {one.outcome for one in us.told(FileEnded)} == {Outcome.COMPLETE}
    assert us.pump(lambda: client.told("file_sent"), 5)


@both
@pytest.mark.parametrize("size", [0, 1, 1371, 2742, 3000])
def test_small_files_each_way(make_client: MakeClient, version: str, size: int) -> None:
    us, client, key = meet(make_client, version)
    data = random.Random(1).randbytes(size)
    us.offer(key, data, size)
    digest = client.call("send_file", friend=0, size=size, seed=2)
    assert us.pump(lambda: client.files and len(us.told(FileEnded)) == 2, 20), us.drops
    assert client.files == [(size, *digests([data]))]
    assert digests(list(us.received.values())) == [digest]


@both
@pytest.mark.parametrize("size", [5, 1371, 100_000])
def test_a_stream_of_unknown_size(make_client: MakeClient, version: str, size: int) -> None:
    us, client, key = meet(make_client, version)
    data = random.Random(1).randbytes(size)
    us.offer(key, data, None)
    assert us.pump(lambda: client.files and us.told(FileEnded), 20), us.drops
    assert client.files == [(size, *digests([data]))]


@both
def test_the_client_seeks_pauses_resumes_and_cancels_ours(
    make_client: MakeClient, version: str
) -> None:
    us, client, key = meet(make_client, version)
    client.call("hold_files")
    data = random.Random(1).randbytes(500_000)
    number = us.offer(key, data, len(data))
    assert us.pump(lambda: client.told("offer"), 5)
    file = client.told("offer")[0]["file"]
    client.call("file_seek", friend=0, file=file, position=400_000)
    client.call("file_control", friend=0, file=file, control=0)
    assert us.pump(lambda: client.files, 20)
    assert client.files == [(len(data), *digests([data[400_000:]]))]

    number = us.offer(key, data * 40, len(data) * 40)
    assert us.pump(lambda: len(client.told("offer")) == 2, 5)
    file = client.told("offer")[1]["file"]
    client.call("file_control", friend=0, file=file, control=0)
    client.call("file_control", friend=0, file=file, control=1)
    assert us.pump(lambda: len(us.told(FileControlled)) >= 3, 5)
    assert us.told(FileControlled)[-1].control is Control.PAUSE
    us.pump(lambda: False, 0.5)
    paused = us.messenger.transfers(key)[0].position
    us.pump(lambda: False, 0.5)
    assert us.messenger.transfers(key)[0].position == paused < len(data) * 40
    client.call("file_control", friend=0, file=file, control=0)
    assert us.pump(lambda: us.messenger.transfers(key)[0].position > paused, 5)
    client.call("file_control", friend=0, file=file, control=2)
    assert us.pump(lambda: len(us.told(FileEnded)) == 2, 5)
    last = us.told(FileEnded)[-1]
    assert (last.number, last.outcome) == (number, Outcome.CANCELLED)


@both
def test_we_seek_pause_resume_and_cancel_the_clients(make_client: MakeClient, version: str) -> None:
    us, client, key = meet(make_client, version)
    us.accepts_files = False
    client.call("send_file", friend=0, size=500_000, seed=3)
    assert us.pump(lambda: us.told(FileOffer), 5)
    whole = random.Random(3).randbytes(500_000)
    number = us.told(FileOffer)[0].number
    us.received[number] += whole[:123_456]
    us.messenger.file_seek(key, number, 123_456, now())
    us.messenger.file_control(key, number, Control.RESUME, now())
    us.messenger.file_control(key, number, Control.PAUSE, now())
    us.pump(lambda: False, 0.5)
    assert len(us.received[number]) < len(whole)
    us.messenger.file_control(key, number, Control.RESUME, now())
    assert us.pump(lambda: us.told(FileEnded), 20)
    assert us.received[number] == whole

    client.call("send_file", friend=0, size=500_000, seed=3)
    assert us.pump(lambda: len(us.told(FileOffer)) == 2, 5)
    number = us.told(FileOffer)[1].number
    us.messenger.file_control(key, number, Control.CANCEL, now())
    assert us.pump(lambda: client.told("file_control", control=2), 5)


@both
def test_an_avatar_and_none(make_client: MakeClient, version: str) -> None:
    us, client, key = meet(make_client, version)
    client.call("hold_files")
    picture = random.Random(5).randbytes(20_000)
    us.messenger.send_avatar(key, picture, now())
    us.messenger.send_avatar(key, None, now())
    assert us.pump(lambda: len(client.told("offer")) == 2, 5)
    first, second = client.told("offer")
    assert (first["kind"], first["file_id"]) == (FileKind.AVATAR, *digests([picture]))
    assert second["size"] == 0
    client.call("file_control", friend=0, file=first["file"], control=0)
    assert us.pump(lambda: client.files, 5)
    assert client.files == [(len(picture), *digests([picture]))]


@both
def test_a_removed_friend_sees_us_go_and_come_back(make_client: MakeClient, version: str) -> None:
    us, client, key = meet(make_client, version)
    us.messenger.remove_friend(key, now())
    assert us.pump(lambda: client.friends[0] == 0, 5)
    us.find(client.public_key, client.dht_id, client.port)
    assert us.pump(lambda: client.friends[0] == 2, 20)


@both
def test_a_client_that_removes_us_is_offline(make_client: MakeClient, version: str) -> None:
    us, client, key = meet(make_client, version)
    client.call("friend_delete", friend=0)
    assert us.pump(lambda: not us.told(ConnectionChanged)[-1].online, 5)
    assert us.messenger.friends() == [key]


@pytest.mark.slow
def test_a_friend_stays_online_by_alive_packets(make_client: MakeClient) -> None:
    us, client, _ = meet(make_client, peers.NEW)
    us.pump(lambda: False, 40)  # more than both sides wait for a sign of life
    assert client.losses[0] == 0
    assert us.told(ConnectionChanged)[-1].online
