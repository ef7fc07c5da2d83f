"""Load for twenty seconds: no process keeps growing, no worker dies, every drop is counted."""

from collections import Counter

import pytest

from tests.bench import soak, soak_each
from tests.bench.__main__ import arguments
from tests.bench.memory import KEY_BYTES
from tests.bench.memory import KEYS as CACHED_KEYS
from tests.bench.soak import Verdict
from tests.bench.soak_each import LOADS, Account
from toxmesh.bench.suite import FRESH_LOAD
from toxmesh.bench.traffic import Result


@pytest.mark.alone
@pytest.mark.process
@pytest.mark.slow
def test_no_process_grows_under_full_load() -> None:
    args = arguments(["soak", "--seconds", "20", "--no-pin", "--workers", "dht=2,onion=2,relay=2"])
    lines: list[str] = []
    verdict = soak.soak(args, lines.append)
    assert verdict.problems() == [], "\n".join(lines)
    assert verdict.answers > 0.9 * verdict.sent


def test_a_verdict_names_what_grew_and_what_died() -> None:
    mib = 1 << 20
    verdict = soak.Verdict(
        base={"broker": 20 * mib, "dht.0": 30 * mib},
        end={"broker": 23 * mib, "dht.0": 34 * mib},
        restarts=1,
        answers=5,
    )
    assert verdict.grown() == ["dht.0 grew from 30.0 to 34.0 MiB"]
    assert verdict.problems()[1:] == ["1 worker restarts"]
    verdict.end = {"dht.0": 30 * mib, "dht.1": 30 * mib}
    assert verdict.grown() == ["dht.1 was not there at the beginning"]


@pytest.mark.alone
@pytest.mark.process
@pytest.mark.slow
def test_no_load_alone_makes_the_node_grow_or_loses_what_nobody_counts() -> None:
    """Seven minutes; `python -m tests.bench soak --load each` is the same for ten minutes each."""
    args = arguments(["soak", "--load", "each", "--seconds", "20", "--no-pin"])
    lines: list[str] = []
    found = soak_each.soak(args, list(LOADS), lines.append)
    wrong = [line for name, row in found.items() for line in soak_each.problems(name, *row)]
    assert wrong == [], "\n".join(lines)
    assert set(found) == set(LOADS)


@pytest.mark.alone
@pytest.mark.process
def test_one_load_alone_is_balanced() -> None:
    args = arguments(["soak", "--seconds", "1", "--no-pin", "--sources", "50"])
    found = soak_each.soak(args, ["ping", "relay 100 B 100x5"], lambda line: None)
    for _, account in found.values():
        assert account.sent > 500
        assert account.balanced, str(account)


@pytest.mark.alone
@pytest.mark.process
def test_more_new_clients_than_can_wait_are_answered_or_counted() -> None:
    args = arguments(["soak", "--seconds", "1", "--no-pin"])
    ((verdict, account),) = soak_each.soak(args, [FRESH_LOAD], lambda line: None).values()
    assert account.sent >= soak_each.NEWCOMERS
    assert account.answers >= soak_each.NEWCOMERS / 4
    assert account.balanced, str(account)
    assert verdict.problems() == []


def test_a_cache_that_fills_is_no_growth() -> None:
    full = KEY_BYTES * CACHED_KEYS
    assert soak_each.cache_growth(100_000) == KEY_BYTES * 80_000  # a fifth was there early
    assert soak_each.cache_growth(300_000) == full - KEY_BYTES * 60_000
    assert soak_each.cache_growth(10_000_000) == full // 2  # full at both ends, or just halved
    mib = 1 << 20
    verdict = Verdict({"dht.0": 30 * mib}, {"dht.0": 53 * mib}, {"dht.0": 20 * mib})
    assert verdict.grown() == []
    verdict.filling["dht.0"] = 19 * mib
    assert verdict.grown() == ["dht.0 grew from 30.0 to 53.0 MiB"]


def test_a_datagram_that_nobody_answers_or_counts_is_a_problem() -> None:
    account = Account(drops=Counter({"queue_full:query": 40, "relay_ended": 9}), own=10)
    account.add(Result(1.0, sent=1000, answers=940))
    assert account.unexplained == 10
    assert account.balanced
    assert str(account) == (
        "1,000 sent = 940 answered + 40 queue_full:query + 10 lost by the load itself "
        "+ 10 unexplained (besides: 9 relay_ended)"
    )
    account.add(Result(1.0, sent=11))
    verdict = Verdict(answers=940)
    assert soak_each.problems("ping", verdict, account) == [
        "ping: 21 datagrams are neither answered nor counted"
    ]
