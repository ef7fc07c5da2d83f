"""What waits for a busy worker: bounded, shed by class, and shared fairly between classes."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from broker.queues import WaitingQueue

KINDS = {"query": 0x00, "onion": 0x80, "announce": 0x83, "other": 0x01}


def packet(name: str, number: int) -> bytes:
    return bytes([KINDS[name]]) + number.to_bytes(4, "big")


def drained(queue: WaitingQueue) -> list[bytes]:
    found: list[bytes] = []
    while len(queue):
        found += queue.take()[1][1::2]
    return found


def test_the_least_valued_class_goes_first_and_its_oldest_before_the_rest() -> None:
    drops: Counter[str] = Counter()
    queue = WaitingQueue(drops, limit=80)
    for i in range(40):
        queue.put(0, b"s", packet("query", i))
        queue.put(0, b"s", packet("announce", i))
    for i in range(30):
        queue.put(0, b"s", packet("onion", i))
    assert len(queue) == 80
    assert drops == {"queue_full:query": 30}
    left = drained(queue)
    assert [row for row in left if row[0] == 0] == [packet("query", i) for i in range(30, 40)]
    assert len([row for row in left if row[0] == 0x83]) == 40


def test_no_class_pushes_another_below_its_share() -> None:
    drops: Counter[str] = Counter()
    queue = WaitingQueue(drops, limit=80)
    for i in range(80):
        queue.put(0, b"s", packet("query", i))
    for i in range(1000):
        queue.put(0, b"s", packet("other", i))
    kinds = Counter(row[0] for row in drained(queue))
    assert kinds == {0x00: 10, 0x01: 70}
    assert drops == {"queue_full:query": 70, "queue_full:other": 930}


def test_every_class_that_waits_has_its_part_of_a_batch() -> None:
    queue = WaitingQueue(Counter())
    for i in range(500):
        queue.put(0, b"s", packet("query", i))
    for i in range(5):
        queue.put(0, b"s", packet("announce", i))
    _, items = queue.take(64)
    kinds = Counter(row[0] for row in items[1::2])
    assert kinds == {0x00: 59, 0x83: 5}


def test_a_batch_is_of_one_socket() -> None:
    queue = WaitingQueue(Counter())
    for socket in (1, 1, 0, 1):
        queue.put(socket, b"s%d" % socket, packet("query", socket))
    sizes = []
    while len(queue):
        socket, items = queue.take()
        assert set(items[::2]) == {b"s%d" % socket}
        sizes.append((socket, len(items) // 2))
    assert sizes == [(1, 2), (0, 1), (1, 1)]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 1)), st.integers(1, 20)
        ),
        max_size=300,
    )
)
def test_nothing_is_lost_unseen_or_given_twice(steps: list[tuple[str, int] | int]) -> None:
    drops: Counter[str] = Counter()
    queue = WaitingQueue(drops, limit=40)
    put = 0
    found: list[bytes] = []
    for step in steps:
        if isinstance(step, int):
            found += queue.take(step)[1][1::2]
        else:
            queue.put(step[1], b"s", packet(step[0], put))
            put += 1
        assert len(queue) <= 40
    found += drained(queue)
    assert len(set(found)) == len(found) == put - sum(drops.values())
