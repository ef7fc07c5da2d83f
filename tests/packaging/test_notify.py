"""What the service manager is told, when, and when its watchdog goes hungry; time is made up."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from toxmesh import activation, children, notify
from toxmesh.children import Child, State
from toxmesh.notify import AWAY_S, STATUS_S, Answering, Notify


class Manager:
    """The other end: a datagram socket at a path or an abstract address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """Returns the datagrams that have come since the last call."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    row = Manager(str(tmp_path / "notify"))
    yield row
    row.close()


def quiet() -> str:
    return ""


def test_a_path_and_an_abstract_address_are_told_the_same(tmp_path: Path) -> None:
    for address in (str(tmp_path / "notify"), f"@toxmesh-{tmp_path.name}-{id(tmp_path)}"):
        manager = Manager(address)
        line = Notify.from_environment({"NOTIFY_SOCKET": address})
        line.ready()
        line.stopping()
        assert manager.heard() == ["READY=1", "STOPPING=1\nSTATUS=stopping"]
        line.close()
        manager.close()


def test_without_a_manager_nothing_is_said_and_nothing_fails(tmp_path: Path) -> None:
    gone = str(tmp_path / "nobody")
    for environment in ({}, {"NOTIFY_SOCKET": gone}, {"NOTIFY_SOCKET": "vsock:2:1234"}):
        line = Notify.from_environment(environment)
        line.ready()
        line.reloading()
        line.tell(0.0, True, quiet)
        line.stopping()
        line.close()
        line.ready()  # a word after the end is lost as well


def test_a_reload_says_when_it_began_on_the_clock_that_systemd_compares(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.monotonic_ns", lambda: 12_345_678_999)
    line = Notify(manager.address)
    line.reloading()
    line.ready()
    assert manager.heard() == ["RELOADING=1\nMONOTONIC_USEC=12345678", "READY=1"]
    line.close()


def test_a_stop_that_needs_longer_asks_for_it(manager: Manager) -> None:
    line = Notify(manager.address)
    line.extend(90.0)
    assert manager.heard() == ["EXTEND_TIMEOUT_USEC=90000000"]
    line.close()


def test_the_watchdog_is_fed_at_half_its_time_and_only_while_all_answer(manager: Manager) -> None:
    line = Notify.from_environment({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "30000000"})
    fed = []
    for tick in range(400):
        now = 1000 + tick / 4
        line.tell(now, not 40 <= tick / 4 < 60, quiet)
        fed += [tick / 4] * manager.heard().count("WATCHDOG=1")
    assert fed == [0.0, 15.0, 30.0, 60.0, 75.0, 90.0]
    line.close()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"},
    ],
)
def test_a_watchdog_that_is_off_or_another_process_s_gets_nothing(
    manager: Manager, variables: dict[str, str]
) -> None:
    line = Notify.from_environment({"NOTIFY_SOCKET": manager.address, **variables})
    for second in range(100):
        line.tell(float(second), True, quiet)
    assert manager.heard() == []
    line.close()


def test_the_status_is_told_when_it_changes_at_most_every_five_seconds(manager: Manager) -> None:
    line = Notify(manager.address)
    for second in range(20):
        line.tell(float(second), True, f"line {second // 10}".__str__)
    assert manager.heard() == ["STATUS=line 0", "STATUS=line 1"]
    line.tell(20.0 + STATUS_S, True, lambda: "two\nlines=" + "x" * 500)
    (said,) = manager.heard()
    assert said.count("\n") == 0
    assert len(said) <= len("STATUS=") + 200
    line.stopping()
    line.tell(100.0, True, lambda: "good")
    assert manager.heard() == ["STOPPING=1\nSTATUS=stopping"]
    line.close()


def test_a_manager_that_does_not_read_is_told_every_change_later_and_in_order(
    manager: Manager,
) -> None:
    line = Notify(manager.address)
    say: list[Callable[[], None]] = [line.reloading, line.ready]
    stuffing = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stuffing.setblocking(False)
    with suppress(BlockingIOError):
        while stuffing.sendto(b"STUFFED=1", manager.address):
            pass
    for word in say:
        word()
    line.tell(0.0, True, quiet)
    assert set(manager.heard()) == {"STUFFED=1"}
    line.tell(0.25, True, quiet)
    assert [text.split("\n")[0] for text in manager.heard()] == ["RELOADING=1", "READY=1"]
    stuffing.close()
    line.close()


class Rows:
    """Children whose life the test decides."""

    def __init__(self, *names: str) -> None:
        self.rows = [Child(name.split(".")[0], int(name.split(".")[1]), None) for name in names]
        for row in self.rows:
            row.state = State.UP

    def heard(self, now: float) -> None:
        for row in self.rows:
            if row.state in (State.UP, State.STOPPING):
                row.heard = now


def test_a_restart_is_no_silence_but_a_worker_that_cannot_come_back_is() -> None:
    node, answering = Rows("broker.0", "dht.0"), Answering()
    answers = {}
    for second in range(60):
        now = float(second)
        if second == 10:
            node.rows[1].state = State.DOWN
        if second == 15:
            node.rows[1].state = State.STARTING
        if second == 18:
            node.rows[1].state = State.UP
        if second == 30:
            node.rows[1].state = State.DOWN
        node.heard(now)
        if node.rows[1].state is State.STARTING:
            node.rows[1].heard = now  # as `spawn` notes it
        answers[second] = answering.all(node.rows, now)
    assert [second for second, good in answers.items() if not good] == list(range(40, 60))


def test_a_worker_that_is_up_and_silent_is_not_answering_for_long() -> None:
    node, answering = Rows("broker.0", "dht.0"), Answering()
    node.heard(0.0)
    assert answering.all(node.rows, 0.0)
    for now in (5.0, children.SILENT_S + AWAY_S):
        node.rows[0].heard = now
        assert answering.all(node.rows, now) == (now == 5.0)


def test_a_worker_that_was_stopped_or_taken_away_on_purpose_is_not_asked() -> None:
    node, answering = Rows("broker.0", "dht.0", "relay.0"), Answering()
    node.heard(0.0)
    assert answering.all(node.rows, 0.0)
    node.rows[1].state = State.STOPPED
    del node.rows[2]
    for second in range(100):
        node.rows[0].heard = float(second)
        assert answering.all(node.rows, float(second))


def test_the_status_line_says_rate_clients_nodes_and_who_is_at_work() -> None:
    node = Rows("broker.0", "dht.0", "dht.1", "relay.0")
    node.rows[0].packets_per_s = 9999.0  # what the broker passed on is not counted twice
    node.rows[0].beat = {"snapshot": {"clients": 512}}
    node.rows[1].packets_per_s, node.rows[2].packets_per_s = 1000.4, 234.0
    node.rows[1].beat = {"snapshot": {"nodes_known": 87}}
    node.rows[3].state = State.DOWN
    assert notify.status_line(node.rows) == (
        "1,234 packets/s, 512 relay clients, 87 DHT nodes, 3 of 4 processes at work"
    )


def test_children_are_told_nothing_of_the_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in activation.VARIABLES:
        monkeypatch.setenv(name, "1")
    assert not set(activation.VARIABLES) & set(children.environment())
