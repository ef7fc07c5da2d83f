"""What operators see of clients and links, and what a kick does: in made-up time, step by step."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from core.asking import BUSY, NOT_FOUND, USAGE, CannotAnswer
from core.crypto import KeyPair, SecretKey
from core.endpoint import from_text
from core.module import Collected, Context
from core.relay import asked
from tests.ops import shapes
from tests.ops.schema import differences
from tests.relay.joined import End, Joined
from workers.relay import RelayWorker


def ask(relay: Joined, what: str, **args: Any) -> dict[str, Any]:
    """Asks until the walk is over, as the supervisor does; `steps` tells how often that was."""
    part = relay.tcp.ask(f"relay {what}", args, relay.now)
    if "walk" not in part:
        return dict(part)
    rows, steps = part["rows"], 1
    while part["walk"] is not None:
        part = relay.tcp.ask(f"relay {what}", {"walk": part["walk"]}, relay.now)
        rows, steps = rows + part["rows"], steps + 1
    return {"rows": rows, "total": part["total"], "steps": steps}


def ask_often(relay: Joined) -> None:
    for _ in range(1000):
        ask(relay, "clients")


def keys(answer: dict[str, Any]) -> list[str]:
    return [row["key"] for row in answer["rows"]]


def upper(end: End) -> str:
    return end.key.hex().upper()


def test_clients_are_shown_with_what_they_do_and_rates_are_those_between_two_looks() -> None:
    relay = Joined(2)
    one, other = relay.confirmed(0), relay.confirmed(1)
    link, _ = relay.linked(one, other)
    row = ask(relay, "clients", key=upper(one))["rows"][0]
    assert row["bytes_in_per_s"] is None
    assert row["rate_s"] == 0
    relay.wait(10)
    for _ in range(5):
        one.send(bytes((link,)) + bytes(982))
    relay.run()
    rows = {row["key"]: row for row in ask(relay, "clients", sort="rate")["rows"]}
    row = rows[upper(one)]
    assert row["address"] == "192.0.2.1:1000"
    assert (row["state"], row["worker"], row["full"]) == ("confirmed", "relay.0", False)
    assert (row["age_s"], row["seen_s"]) == (10.0, 0.0)
    assert (row["links_up"], row["links_waiting"]) == (1, 0)
    assert row["frames_in"] == 7  # a ping, a routing request, and the data
    assert row["frames_out"] == 3
    assert row["bytes_in"] == 27 + 51 + 5 * 1001
    assert (row["rate_s"], row["bytes_in_per_s"]) == (10.0, 500.5)
    assert row["frames_in_per_s"] == 0.5
    assert rows[upper(other)]["frames_out"] == 3 + 5
    again = ask(relay, "clients", key=upper(one))["rows"][0]
    assert again["bytes_in_per_s"] == 500.5  # too soon for another rate


def test_listings_are_sorted_filtered_and_limited() -> None:
    relay = Joined(2)
    ends = []
    for number in range(6):
        relay.now += 1
        source = from_text(f"198.51.100.{10 - number}", 4000 + number)
        end = relay.connect(number % 2, source=source)
        end.socket.sendall(end.client.hello())
        relay.run()
        end.send(b"\x04" + bytes(7) + b"\x01")
        relay.run()
        end.take()
        ends.append(end)
    young = relay.connect(0)
    greeted = relay.greeted(0)
    newest = [upper(end) for end in reversed(ends)]
    assert keys(ask(relay, "clients", state="confirmed")) == newest
    assert keys(ask(relay, "clients", state="confirmed", sort="oldest", limit=2)) == newest[:-3:-1]
    assert ask(relay, "clients", limit=2)["total"] == 8
    assert keys(ask(relay, "clients", sort="address", address="198.51.100.")) == newest
    assert keys(ask(relay, "clients", sort="key", state="confirmed")) == sorted(newest)
    assert keys(ask(relay, "clients", worker="relay.1")) == newest[::2]
    assert keys(ask(relay, "clients", key=newest[2][:10].lower())) == [newest[2]]
    assert keys(ask(relay, "clients", state="greeting")) == [None]
    assert keys(ask(relay, "clients", state="unconfirmed")) == [upper(greeted)]
    assert ask(relay, "clients", full=True)["rows"] == []
    relay.linked(ends[3], ends[4])
    assert keys(ask(relay, "clients", sort="links"))[:2] == [upper(ends[4]), upper(ends[3])]
    ends[2].send(*[b"\x04" + bytes(7) + b"\x02"] * 9)
    relay.now += 1
    relay.run()
    for sort in ("seen", "frames", "bytes"):
        assert keys(ask(relay, "clients", sort=sort))[0] == upper(ends[2])
    assert keys(ask(relay, "clients", sort="silent", state="confirmed"))[-1] == upper(ends[2])
    assert young.connection is not None


def test_links_are_shown_once_up_or_waiting() -> None:
    relay = Joined(2)
    one, other, third = relay.confirmed(0), relay.confirmed(1), relay.confirmed(0)
    ours, theirs = relay.linked(other, one)
    third.send(b"\x00" + bytes(32))
    relay.run()
    assert ask(relay, "links")["rows"] == [
        {"key": upper(one), "link": theirs, "peer": upper(other), "peer_link": ours, "state": "up"},
        {
            "key": upper(third),
            "link": 16,
            "peer": bytes(32).hex(),
            "peer_link": None,
            "state": "waiting",
        },
    ]
    assert ask(relay, "links", limit=1)["total"] == 2
    assert keys(ask(relay, "links", state="waiting")) == [upper(third)]
    shown = ask(relay, "client", key=other.key.hex())
    assert shown["links"][0]["peer"] == upper(one)
    assert [row["key"] for row in shown["connections"]] == [upper(other)]
    assert shown["shard"] == 1


def test_nonsense_is_refused_with_a_sentence() -> None:
    relay = Joined()
    for what, args, code in (
        ("clients", {"sort": "size"}, USAGE),
        ("clients", {"state": "closed"}, USAGE),
        ("clients", {"worker": "relay.9"}, NOT_FOUND),
        ("clients", {"limit": 0}, USAGE),
        ("links", {"state": "down"}, USAGE),
        ("client", {"key": "12"}, USAGE),
        ("client", {"key": "12" * 32}, NOT_FOUND),
        ("clients", {"walk": 77}, BUSY),
        ("shoes", {}, NOT_FOUND),
    ):
        with pytest.raises(CannotAnswer) as caught:
            relay.tcp.ask(f"relay {what}", args, relay.now)
        assert caught.value.code == code


def test_a_long_listing_is_made_in_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = Joined()
    ends = [relay.connect(source=from_text(f"198.51.{n}.1", 9)) for n in range(256)]
    clock = itertools.count(0.0, 0.0011)  # each look at it is a millisecond later
    monkeypatch.setattr("broker.tcp_asked.time.perf_counter", lambda: next(clock))
    answer = ask(relay, "clients", limit=300)
    assert (len(answer["rows"]), answer["total"]) == (256, 256)
    assert answer["steps"] == 9  # 512 rows found and described, 64 in each; then the end
    part = relay.tcp.ask("relay clients", {"limit": 300}, relay.now)
    gone = ends[0].connection
    assert gone is not None
    relay.tcp.close(gone, "relay_gone", relay.now)
    rows: list[Any] = part["rows"]
    while part["walk"] is not None:
        part = relay.tcp.ask("relay clients", {"walk": part["walk"]}, relay.now)
        rows += part["rows"]
    assert len(rows) == 255  # one that goes meanwhile is left out


def test_walks_are_few_and_get_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = Joined()
    for _ in range(100):
        relay.connect()
    clock = itertools.count(0.0, 0.0011)
    monkeypatch.setattr("broker.tcp_asked.time.perf_counter", lambda: next(clock))
    begun = [relay.tcp.ask("relay clients", {}, relay.now)["walk"] for _ in range(8)]
    with pytest.raises(CannotAnswer, match="too many") as caught:
        relay.tcp.ask("relay links", {}, relay.now)
    assert caught.value.code == BUSY
    relay.now += 11  # nobody goes on with them
    assert relay.tcp.ask("relay clients", {}, relay.now)["walk"] not in begun
    with pytest.raises(CannotAnswer, match="took too long"):
        relay.tcp.ask("relay clients", {"walk": begun[0]}, relay.now)
    for _ in range(50):  # each takes some 6 ms of the half second
        ask(relay, "clients")
    with pytest.raises(CannotAnswer, match="too many"):
        ask_often(relay)
    relay.now += 11
    ask(relay, "clients")


def test_a_kick_closes_what_has_the_key_and_its_peers_learn_of_it() -> None:
    relay = Joined(2)
    followed = relay.hooks.events
    followed.follow(["relay"])
    one, other = relay.confirmed(0), relay.confirmed(1)
    _, theirs = relay.linked(one, other)
    answer = ask(relay, "kick", key=upper(one), reason="too loud")
    assert answer == {"closed": 1, "addresses": ["192.0.2.1:1000"]}
    relay.run()
    assert one.closed
    assert not other.closed
    assert other.take() == [bytes((3, theirs))]
    assert relay.hooks.drops["relay_kicked"] == 1
    assert ask(relay, "kick", key=upper(one))["closed"] == 0
    greeted = relay.greeted(0)
    assert ask(relay, "kick", key=upper(greeted))["closed"] == 1
    changes = [(data["change"], data["why"], data["clients"]) for _, data in followed.take()[0]]
    assert changes == [("in", "confirmed", 1), ("in", "confirmed", 2), ("out", "relay_kicked", 2)]


def test_links_are_told_when_they_come_up_and_why_they_go() -> None:
    relay = Joined(2)
    followed = relay.hooks.events
    one, other, third = (relay.confirmed(shard) for shard in (0, 1, 1))
    relay.linked(one, third)  # nobody follows yet
    followed.follow(["link"])
    ours, theirs = relay.linked(one, other)
    one.send(b"\x00" + other.key)  # asked for again, it is the same link
    other.send(bytes((3, theirs)))
    relay.run()
    assert [one.take()[-1], len(other.take())] == [bytes((3, ours)), 0]
    relay.linked(other, third)
    ask(relay, "kick", key=upper(third))
    rows, lost = followed.take()
    assert (lost, {name for name, _ in rows}) == (0, {"link"})
    for _, data in rows:
        assert differences(shapes.EVENTS["link"].answer, {"from": "broker", **data}) == []
    assert [(data["change"], data["key"], data["peer"], data["why"]) for _, data in rows] == [
        ("up", upper(other), upper(one), "both_asked"),
        ("down", upper(other), upper(one), "given_up"),
        ("up", upper(third), upper(other), "both_asked"),
        ("down", upper(third), upper(one), "relay_kicked"),
        ("down", upper(third), upper(other), "relay_kicked"),
    ]
    workers = {upper(one): "relay.0", upper(other): "relay.1", upper(third): "relay.1"}
    for _, data in rows:
        assert data["worker"] == workers[data["key"]]
        assert data["peer_worker"] == workers[data["peer"]]


class NoDesk:
    """A broker that nothing may be sent to."""

    def send_frame(self, kind: int, items: Sequence[object]) -> None:
        raise AssertionError("it sends nothing here")


def test_a_worker_tells_for_what_a_session_waits() -> None:
    relay = Joined()
    one = relay.confirmed()
    assert one.connection is not None
    serial = one.connection.serial
    one.send(b"\x00" + bytes(32))
    relay.sockets()
    shown = asked.answer(relay.workers[0], "relay session", {"serial": serial}, relay.now + 2)
    assert (shown["waits_for"], shown["pinged_s"], shown["paused_s"]) == ("nothing", 2.0, None)
    assert not shown["ping_open"]
    worker = RelayWorker(
        Context(KeyPair.generate(relay.entropy), SecretKey(bytes(32)), relay.entropy, Collected()),
        NoDesk(),
    )
    for what in ("relay session", "relay shoes"):
        with pytest.raises(CannotAnswer) as caught:
            worker.ask(what, {"serial": 1}, 1.0)
        assert caught.value.code == NOT_FOUND
