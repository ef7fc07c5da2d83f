"""What a scrape tells: it parses, it is complete, and it stays small whatever strangers do."""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tests.web import samples
from toxmesh.web.exposition import MAX_SERIES, Bounded, Exposition
from toxmesh.web.metrics import MAX_REASONS, Metrics

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(text: bytes) -> Series:
    """Reads a scrape as Prometheus' own library does."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def scrape(report: dict[str, Any] | None = None, workers: int = 1) -> Series:
    text = Metrics().render(report or samples.report(workers), samples.beats(workers))
    return parse(text)


def value(series: Series, metric: str, /, **labels: str) -> float:
    return series[metric, tuple(sorted(labels.items()))]


def test_every_figure_stands_under_its_name() -> None:
    series = scrape()

    def expect(wanted: float, metric: str, /, **labels: str) -> None:
        assert value(series, "toxmesh_" + metric, **labels) == wanted, metric

    expect(4, "udp_packets_total", dir="in", kind="0x00", name="ping request")
    expect(4, "udp_packets_total", dir="out", kind="0x01", name="ping response")
    expect(9, "udp_packets_total", dir="in", kind="other", name="no packet of Tox")
    expect(2, "udp_drops_total", reason="dht_box")
    expect(9, "udp_drops_total", reason="unknown_kind:0x07")
    expect(3, "relay_drops_total", reason="relay_ended")
    expect(1, "operator_refusals_total", reason="http_host")
    expect(2, "crypto_failures_total", module="dht")
    expect(0, "crypto_failures_total", module="onion")
    expect(1, "node_state", state="good")
    expect(0, "node_state", state="draining")
    expect(1.7e9, "start_time_seconds")
    expect(3, "reloads_total", result="good")
    expect(1, "reloads_total", result="bad")
    expect(1, "settings_pending")
    expect(1, "worker_up", worker="dht.0")
    expect(0.125, "worker_busy_ratio", worker="dht.0")
    expect(1.5, "worker_cpu_seconds_total", worker="onion.0")
    expect(30 << 20, "worker_memory_bytes", worker="relay.0")
    expect(6, "worker_packets_total", worker="dht.0")
    expect(0.4, "worker_heartbeat_age_seconds", worker="broker")
    expect(2048, "worker_kernel_queue_bytes", worker="dht.0")
    expect(3, "broker_queue_frames", worker="dht.0")
    expect(1, "worker_mailbox_frames", worker="dht.0")
    expect(90, "shared_key_cache_hits_total", role="dht")
    expect(10, "shared_key_cache_misses_total", role="dht")
    expect(10, "shared_key_cache_keys", role="dht")
    expect(2, "dht_nodes", family="ipv4", state="good")
    expect(1, "dht_nodes", family="ipv4", state="bad")
    expect(2, "dht_buckets_used")
    expect(1, "dht_connected")
    expect(0, "dht_connected_outside")
    expect(5, "onion_announces")
    expect(2, "onion_group_chats")
    expect(1, "onion_data_entries")
    expect(7, "relay_connections", state="confirmed")
    expect(1000, "relay_bytes_total", dir="in")
    expect(2000, "relay_bytes_total", dir="out")
    expect(55, "relay_frames_total", kind="0x10")
    expect(9, "relay_accepted_total")
    expect(8, "relay_confirmed_total")
    expect(1, "relay_accepting")


def test_the_histogram_of_batches_counts_upwards_and_leaves_out_empty_ones() -> None:
    series = scrape(workers=2)
    name = "toxmesh_worker_batch_size"
    assert value(series, name + "_bucket", role="dht", le="1") == 4
    assert value(series, name + "_bucket", role="dht", le="3") == 4
    assert value(series, name + "_bucket", role="dht", le="7") == 6
    assert value(series, name + "_bucket", role="dht", le="+Inf") == 6
    assert value(series, name + "_count", role="dht") == 6
    assert value(series, name + "_sum", role="dht") == 12


def test_a_node_that_has_just_started_has_a_scrape_as_well() -> None:
    report = samples.report(modules={})
    text = Metrics().render(report, {name: {} for name in samples.beats()})
    assert value(parse(text), "toxmesh_worker_cpu_seconds_total", worker="dht.0") == 0


def test_what_is_alerted_on_is_there_before_it_happens() -> None:
    series = scrape()
    assert value(series, "toxmesh_udp_drops_total", reason="bug") == 0
    assert value(series, "toxmesh_relay_drops_total", reason="relay_bug") == 0


def test_the_greatest_node_under_the_worst_flood_stays_below_the_bound_and_loses_no_count() -> None:
    report = samples.report(workers=64)
    for role in ("onion", "relay"):
        report["workers"] += [samples.worker(f"{role}.{shard}") for shard in range(1, 64)]
    report["workers"] += [samples.worker(f"broker.{shard}") for shard in range(1, 16)]
    drops = {f"unknown_kind:0x{kind:02x}": 7 for kind in range(256)}
    drops |= {f"relay_{number}": 5 for number in range(1000)}
    report["totals"]["drops"] = drops
    report["totals"]["kinds"] = {
        f"0x{kind:02x}": {"received": 1, "sent": 1} for kind in range(256)
    }
    report["modules"]["relay.0"]["frames"] = {f"{kind:02x}": 1 for kind in range(256)}
    beats = {row["name"]: samples.beat() for row in [report["broker"], *report["workers"]]}
    series = parse(Metrics().render(report, beats))
    assert len(series) <= MAX_SERIES

    def total(*names: str) -> float:
        return sum(count for (name, _), count in series.items() if name in names)

    assert total("toxmesh_udp_drops_total", "toxmesh_relay_drops_total") == sum(drops.values())
    assert total("toxmesh_udp_packets_total") == 512
    assert total("toxmesh_relay_frames_total") == 256
    assert total("toxmesh_worker_packets_total") == 6 * len(beats)
    # Nothing was cut off at the last bar: what comes last is there.
    assert value(series, "toxmesh_relay_confirmed_total") == 8


def test_a_series_that_is_there_stays_when_more_come_than_there_is_room_for() -> None:
    bounded = Bounded(2)
    assert bounded.fold({"m": 1, "n": 2}) == {"m": 1, "n": 2, "other": 0}
    assert bounded.fold({"a": 5, "m": 3, "n": 4, "z": 6}) == {"m": 3, "n": 4, "other": 11}


def test_reasons_have_room_for_all_that_the_node_has() -> None:
    metrics = Metrics()
    report = samples.report()
    report["totals"]["drops"] = {f"r{n}": 1 for n in range(MAX_REASONS - 2)}
    series = parse(metrics.render(report, {}))
    assert ("toxmesh_udp_drops_total", (("reason", "r7"),)) in series


@given(st.text(), st.floats(allow_nan=False) | st.integers(0, 2**70) | st.booleans())
def test_any_label_and_any_number_come_through(text: str, number: float) -> None:
    # The lines of the format end with \n alone; the library's reader also splits at other signs.
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", "\n", text)
    out = Exposition()
    out.family("toxmesh_x", "gauge", "Nothing.", [((("reason", text),), number)])
    assert parse(out.text()) == {("toxmesh_x", (("reason", text),)): number}


def test_families_stay_within_the_room_and_have_one_name_each() -> None:
    out = Exposition(max_series=3)
    out.family("a", "counter", "A.", [((("n", str(n)),), n) for n in range(5)])
    out.family("b", "counter", "B.", [((), 1)])
    assert out.text().decode().count("\n") == 5
    assert b"# HELP b" not in out.text()
