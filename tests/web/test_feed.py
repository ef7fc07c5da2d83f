"""The rates that the live page draws: from one heartbeat of a process to its next."""

from typing import Any

import orjson

from tests.web import samples
from toxmesh.web.feed import MAX_DROPS, Feed


def event(feed: Feed, beats: dict[str, Any], now: float, **changes: Any) -> dict[str, Any]:
    update: dict[str, Any] = orjson.loads(feed.event(samples.report(**changes), beats, now))
    return update


def kind(update: dict[str, Any], number: str) -> tuple[float, float]:
    row = next(row for row in update["kinds"] if row["kind"] == number)
    return row["received"], row["sent"]


def test_rates_are_those_between_heartbeats_of_processes_that_beat_at_different_times() -> None:
    feed = Feed()
    one, two = samples.beat(100.0), samples.beat(100.6)
    assert kind(event(feed, {"dht.0": one, "dht.1": two}, 101.0), "0x00") == (0, 0)
    one = samples.beat(101.0, received=[[0, 104]], sent=[[1, 204]])
    update = event(feed, {"dht.0": one, "dht.1": two}, 101.3)
    assert kind(update, "0x00") == (100, 0)
    assert kind(update, "0x01") == (0, 200)
    two = samples.beat(102.6, received=[[0, 104]])
    assert kind(event(feed, {"dht.0": one, "dht.1": two}, 102.7), "0x00") == (150, 0)
    assert kind(event(feed, {"dht.0": one, "dht.1": two}, 102.9), "0x00") == (150, 0)


def test_what_is_no_packet_of_tox_is_one_kind() -> None:
    feed = Feed()
    event(feed, {"broker": samples.beat(100.0, received=[[7, 1], [9, 1]])}, 100.0)
    beats = {"broker": samples.beat(101.0, received=[[7, 11], [9, 21]])}
    assert kind(event(feed, beats, 101.0), "other") == (30, 0)


def test_a_process_that_is_new_or_has_been_away_has_no_rate_and_never_a_negative_one() -> None:
    feed = Feed()
    event(feed, {"dht.0": samples.beat(100.0, received=[[0, 1000]])}, 100.0)
    event(feed, {"dht.0": samples.beat(101.0, received=[[0, 2000]])}, 101.0)
    fresh = {"dht.0": samples.beat(102.0, received=[[0, 10]])}
    assert kind(event(feed, fresh, 102.0), "0x00") == (0, 0)
    assert kind(event(feed, {"dht.0": {}}, 102.5), "0x00") == (0, 0)
    event(feed, {"dht.0": samples.beat(103.0, received=[[0, 50]])}, 103.0)
    late = {"dht.0": samples.beat(203.0, received=[[0, 100_050]])}
    assert kind(event(feed, late, 203.0), "0x00") == (0, 0)


def test_drops_that_happen_now_come_first_and_few_are_shown() -> None:
    feed = Feed()
    totals = {
        "kinds": {},
        "drops": {"old": 10_000, "now": 20, **{f"r{n}": n for n in range(100)}},
    }
    event(feed, {"dht.0": samples.beat(100.0, drops={"now": 10})}, 100.0, totals=totals)
    beats = {"dht.0": samples.beat(102.0, drops={"now": 20})}
    rows = event(feed, beats, 102.0, totals=totals)["drops"]
    assert rows[0] == ["now", 20, 5.0]
    assert rows[1] == ["old", 10_000, 0.0]
    assert len(rows) == MAX_DROPS


def test_bytes_of_the_relay_have_a_rate() -> None:
    feed = Feed()
    before = {"counts": {"bytes_in": 1000, "bytes_out": 0}}
    after = {"counts": {"bytes_in": 5000, "bytes_out": 300}}
    event(feed, {"broker": samples.beat(100.0, snapshot=before)}, 100.0)
    relay = event(feed, {"broker": samples.beat(102.0, snapshot=after)}, 102.0)["relay"]
    assert (relay["bytes_in"], relay["bytes_out"]) == (2000, 150)
    assert relay["on"]


def test_a_node_without_relay_and_table_has_an_update_too() -> None:
    update = event(Feed(), {}, 100.0, modules={"onion.0": {}})
    assert update["relay"]["on"] is False
    assert update["table"] == {}


def test_an_update_stays_small() -> None:
    report = samples.report(workers=64)
    report["modules"]["dht.0"]["table"]["places"] = "0" * 10 * 1024  # a full table
    report["totals"]["kinds"] = {
        f"0x{kind:02x}": {"received": 1, "sent": 1} for kind in range(256)
    }
    report["totals"]["drops"] = {f"reason_{n}": n for n in range(500)}
    assert len(Feed().event(report, samples.beats(64), 100.0)) < 40_000
