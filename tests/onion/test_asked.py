"""What operators may ask an onion shard: right, and short however full the stores are."""

import time

import pytest

from core.asking import CannotAnswer
from core.endpoint import from_text, prefix_of, prefix_text
from core.entropy import SeededEntropy
from core.link.child import plain
from core.onion.asked import MOST_CHATS, SAMPLE
from core.onion.ordered import OrderedRows
from tests.onion.client import group_announce
from tests.onion.node import START, Node, address

ENTRIES = 100_000
ALLOWED_S = 0.05  # of processor time: some 2 to 5 ms, on a machine that is ten times as slow
NOW = START + 100.0


@pytest.fixture(scope="module")
def full() -> Node:
    """A node of one shard with as many entries and chats as it takes."""
    node, entropy = Node("full", address(1)), SeededEntropy("clients")
    announces = node.shards[0].announces
    for number in range(ENTRIES):
        source = from_text(f"{1 + number % 2}.{number // 250 % 250}.{number % 250}.9", 33445)
        since = START + number * 0.001
        announces.entries.put(entropy.bytes(32), source, bytes(177), bytes(32), since)
    for number in range(10_000):
        row = group_announce(entropy.bytes(32), b"\x02" + entropy.bytes(6))
        source = from_text(f"9.{number // 250}.{number % 250}.1", 33445)
        announces.groups.put(entropy.bytes(32), row, source, NOW - 1.0)
    return node


@pytest.mark.parametrize(
    ("what", "args"),
    [
        ("announces find", {"key": "42" * 32}),
        ("announces stats", {}),
        ("announces groups", {"limit": MOST_CHATS}),
        ("announces groups", {"key": "42" * 32}),
        ("data", {}),
        ("onion", {}),
    ],
)
def test_no_answer_holds_a_full_shard_for_long(
    full: Node, what: str, args: dict[str, object]
) -> None:
    taken = []
    for _ in range(5):
        before = time.process_time()
        plain(full.shards[0].ask(what, args, NOW))
        taken.append(time.process_time() - before)
    assert min(taken) < ALLOWED_S


def test_what_a_sample_tells_is_near_what_all_entries_would_tell(full: Node) -> None:
    told = full.shards[0].ask("announces stats", {}, NOW)
    assert (told["entries"], told["capacity"]) == (ENTRIES, ENTRIES)
    assert SAMPLE * 0.9 <= told["sampled"] <= SAMPLE
    assert (told["oldest_s"], told["newest_s"]) == (100.0, 0.0)
    first, second = told["ages"][:2]
    assert first / told["sampled"] == pytest.approx(0.6, abs=0.06)  # of 100 s, 60 are the last
    assert second / told["sampled"] == pytest.approx(0.4, abs=0.06)
    assert told["ages"][2:] == [0, 0, 0]
    assert len(told["top"]) <= 100


@pytest.mark.parametrize("count", [0, 1, 511, 1024, 5000])
@pytest.mark.parametrize("most", [1, 7, 1000])
def test_rows_are_sampled_evenly(count: int, most: int) -> None:
    rows: OrderedRows[int] = OrderedRows()
    for number in range(count):
        rows.add(number)
    found = rows.sample(most)
    assert found == list(range(0, count, max(1, -(-count // most))))
    assert len(found) <= most


def test_a_question_that_nobody_knows_is_refused() -> None:
    shard = Node("n", address(0)).shards[0]
    with pytest.raises(CannotAnswer, match="nothing that an onion shard knows"):
        shard.ask("dht show", {}, START)
    with pytest.raises(CannotAnswer, match="64 hex digits"):
        shard.ask("announces find", {"key": "42"}, START)
    empty = shard.ask("announces stats", {}, START)
    assert (empty["entries"], empty["sampled"], empty["nearest_bits"]) == (0, 0, None)


def test_prefixes_are_written_as_people_know_them() -> None:
    for host, text in (
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
    ):
        assert prefix_text(prefix_of(from_text(host, 1))) == text
