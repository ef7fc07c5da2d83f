"""A row of the table is several measurements: which of their figures counts, and what is shown."""

import pytest

from tests.bench import bars
from toxmesh.bench import plan, table
from toxmesh.bench.measured import Measured
from toxmesh.bench.plan import FRAMES
from toxmesh.bench.rows import Row, alternate
from toxmesh.bench.suite import FRESH, FRESH_LOAD
from toxmesh.bench.traffic import Result

REFERENCE, OURS = "tox-bootstrapd", "toxmesh"


def _once(
    node: str, cpu: float | None, per_second: int = 100, load: str = "ping", seconds: float = 2.0
) -> Measured:
    answers = int(per_second * seconds)
    result = Result(seconds, answers + 1, answers, lost=1, latencies=[0.001 * (cpu or 1)])
    return Measured(node, load, 1000, result, cpu, switches=50)


def _row(node: str, *costs: float | None, load: str = "ping") -> Row:
    return Row(tuple(_once(node, cpu, load=load) for cpu in costs))


def test_the_median_of_the_repeats_counts_and_their_spread_is_kept() -> None:
    row = _row(OURS, 9.0, 5.0, 6.0)
    assert row.cpu_us == 6.0
    assert row.cpu_spread == (5.0, 9.0)
    assert row.quantile(0.5) == pytest.approx(0.006)
    assert _row(OURS, 9.0, 5.0).cpu_us == 7.0  # of an even number: between the two in the middle
    speeds = Row(tuple(_once(OURS, 5.0, speed) for speed in (100, 700, 300)))
    assert speeds.per_second == 300
    assert speeds.switches_per_s == 25


def test_counts_are_sums() -> None:
    row = _row(OURS, 9.0, 5.0, 6.0)
    assert (row.sent, row.answers, row.lost, row.checked) == (603, 600, 3, 3)
    assert row.seconds == 6.0


def test_a_row_that_was_measured_once_has_no_spread() -> None:
    rows = [_row(OURS, 9.0), _row(REFERENCE, 18.0)]
    assert rows[0].cpu_spread is None
    assert table.share_spread(rows[0], rows, REFERENCE) is None
    assert table.cells(rows[0], rows, REFERENCE)[7:9] == ("9.0", "0.50")


def test_a_share_is_the_median_of_ours_by_the_median_of_theirs() -> None:
    rows = [_row(OURS, 6.0, 7.0, 6.5), _row(REFERENCE, 13.0, 10.0, 26.0)]
    assert table.share(rows[0], rows, REFERENCE) == 6.5 / 13.0
    # its spread is that of measurements that followed one another: 6 / 13, 7 / 10, 6.5 / 26
    assert table.share_spread(rows[0], rows, REFERENCE) == (0.25, 0.7)
    assert table.cells(rows[0], rows, REFERENCE)[7:9] == ("6.5 (6.0-7.0)", "0.50 (0.25-0.70)")
    assert table.share(rows[1], rows, REFERENCE) is None


def test_a_bar_judges_the_medians() -> None:
    back = "onion 0x8c"
    rows = [_row(OURS, 4.0, 4.5, 9.0, load=back), _row(REFERENCE, 10.0, 9.0, 30.0, load=back)]
    (bar,) = bars.judge(rows)
    assert (bar.value, bar.met) == (0.45, True)


def test_a_repeat_without_answers_is_said_and_misses_the_bars() -> None:
    silent = Measured(OURS, "onion 0x8c", 1000, Result(2.0, 100, 0), 500_000.0)
    row = Row((_once(OURS, 4.0, load="onion 0x8c"), silent, _once(OURS, 5.0, load="onion 0x8c")))
    rows = [row, _row(REFERENCE, 10.0, 10.0, 10.0, load="onion 0x8c")]
    assert row.cpu_us == 4.5  # what cost no answer anything is no cost of an answer
    assert table.share(row, rows, REFERENCE) is None
    assert table.note(row) == "1 of 3 repeats had no answers"
    (bar,) = bars.judge(rows)
    assert not bar.met


def test_a_node_that_cannot_be_seen_has_no_costs() -> None:
    row = _row(OURS, None, None)
    assert (row.cpu_us, row.cpu_spread) == (None, None)
    assert table.cells(row, [row], REFERENCE)[7] == "-"


def test_figures_of_one_load_are_medians_too_and_notes_are_said_once() -> None:
    each = [_once(OURS, 5.0) for _ in range(3)]
    for place, value in enumerate((30.0, 31.0, 50.0)):
        each[place].figures["scalar_us"] = value
        each[place].cpu_by["dht.0"] = value / 10
        each[place].note = "4 nodes listed" if place else "3 nodes listed"
    row = Row(tuple(each))
    assert row.figures == {"scalar_us": 31.0}
    assert row.cpu_by == {"dht.0": 3.1}
    assert table.note(row) == "3 nodes listed; 4 nodes listed; scalar multiplication 31.0 us"


def test_json_has_the_row_and_all_its_repeats() -> None:
    plain = _row(OURS, 9.0, 5.0, 6.0).plain_with_repeats()
    assert plain["cpu_us"] == 6.0
    assert plain["answers"] == 600
    assert plain["switches_per_s"] == 25
    assert [each["cpu_us"] for each in plain["repeats"]] == [9.0, 5.0, 6.0]
    assert [each["answers"] for each in plain["repeats"]] == [200, 200, 200]
    assert "repeats" not in plain["repeats"][0]


def test_nodes_take_turns() -> None:
    order: list[str] = []

    def way(name: str) -> Measured:
        order.append(name)
        return _once(name, float(len(order)))

    rows = alternate([lambda: way(OURS), lambda: way(REFERENCE)], 3)
    assert order == [OURS, REFERENCE] * 3
    assert [[each.cpu_us for each in row.repeats] for row in rows] == [[1, 3, 5], [2, 4, 6]]


def test_a_run_that_is_over_keeps_what_it_has() -> None:
    made = [_once(OURS, 1.0)]
    stop = iter((False, True))
    (row,) = alternate([lambda: made[0]], 5, lambda: next(stop))
    assert len(row.repeats) == 2


def test_new_clients_are_others_in_each_repeat() -> None:
    once = plan.clients_needed([FRESH_LOAD], [1000])
    assert plan.clients_needed([FRESH_LOAD], [1000], repeats=3) == once + 2 * FRESH
    assert plan.clients_needed(["ping"], [1000], repeats=3) < FRESH


def test_the_relay_has_one_row_for_each_number_of_many_keys() -> None:
    jobs = plan.relay_jobs(plan.ALL, (1, 1000, 100_000))
    assert jobs == [
        (plan.HANDSHAKES, 1000), (plan.HANDSHAKES, 100_000), *((name, None) for name in FRAMES),
    ]  # fmt: skip
    assert plan.relay_jobs(["ping", plan.HANDSHAKES], (5, 20)) == [(plan.HANDSHAKES, 20)]
