"""Parts of the supervisor that need no process: sockets, back-off, the control door's path."""

import os
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from core.crypto import KeyPair
from core.entropy import SystemEntropy
from tests.processes.node import free_port
from toxmesh import children, sockets, supervisor
from toxmesh.children import MOVES, Child, State
from toxmesh.life import Life, run_directory
from toxmesh.settings import Settings


def test_version_number_has_a_leading_digit_of_our_own() -> None:
    assert supervisor.version_number("1.2.3") == 2_001_002_003
    assert supervisor.version_number("99.999.999") < 3_000_000_000


def test_a_port_that_was_given_must_be_free_and_the_sentence_says_what_to_do() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(sockets.BindError, match=f"TCP port {port} .* another port with --tcp"):
            sockets.bind(("127.0.0.1",), 0, (port,))
    with pytest.raises(sockets.BindError, match="no address of this machine"):
        sockets.bind(("192.0.2.77",), free_port(), ())


def test_a_port_this_user_may_not_have_is_exit_5(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sockets, "_bind", refuse)
    for ports in ((80, ()), (0, (80,))):
        with pytest.raises(sockets.BindError, match="not allowed for this user") as caught:
            sockets.bind(("127.0.0.1",), *ports)
        assert caught.value.code == 5


def test_a_search_takes_the_first_port_that_is_free_for_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ports: list[int] = []
    while len(ports) < 3:
        port = free_port(socket.SOCK_STREAM)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other, suppress(OSError):
            other.bind(("127.0.0.1", port))  # somebody else may have it there
            if port not in ports:
                ports.append(port)
    monkeypatch.setattr(sockets, "PORT_RANGE", ports)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
    ):
        one.bind(("127.0.0.1", ports[0]))
        one.listen()
        two.bind(("127.0.0.1", ports[1]))
        bound = sockets.bind(("127.0.0.1",), None, None)
        assert (bound.udp_port, bound.tcp_ports) == (ports[2], (ports[2],))
        assert bound.addresses() == [f"udp 127.0.0.1:{ports[2]}", f"tcp 127.0.0.1:{ports[2]}"]
        with pytest.raises(sockets.BindError, match="no port of"):
            sockets.bind(("127.0.0.1",), None, None)
        bound.close()


def test_zero_switches_a_transport_off() -> None:
    bound = sockets.bind(("127.0.0.1",), 0, ())
    assert (bound.udp, bound.tcp, bound.udp_port, bound.tcp_ports) == ([], [], 0, ())


def test_back_off_grows_from_nothing_to_five_seconds() -> None:
    rows = children.BACKOFF_S
    assert rows[:2] == (0.0, 0.1)
    assert list(rows) == sorted(rows)
    assert rows[-1] == 5.0


def test_the_life_of_a_child_has_no_way_out_of_stopped() -> None:
    assert {after for (state, _), after in MOVES.items() if state is State.STOPPED} == {
        State.STOPPED
    }
    child = Child("dht", 3, None)
    assert child.name == "dht.3"
    with pytest.raises(KeyError):
        child.move("ready")


def test_rates_come_from_two_heartbeats() -> None:
    child = Child("dht", 0, None)
    child.take_beat({"packets": 100, "busy": 1.0}, 10.0)
    child.take_beat({"packets": 1100, "busy": 1.5}, 12.0)
    assert child.packets_per_s == 500.0
    assert child.cpu_percent == 25.0
    child.state, child.heard = State.UP, 12.0
    assert not child.silent(15.0)
    assert child.silent(15.1)


class _Running(Child):
    """A child that is up, without a process."""

    def __init__(self, role: str, heard: float) -> None:
        super().__init__(role, 0, None)
        self.move("spawn")
        self.move("ready")
        self.heard = heard

    @property
    def alive(self) -> bool:
        return True


def test_one_silent_child_hangs_but_if_most_are_silent_the_machine_does() -> None:
    def hung(now: float, *heard: float) -> int:
        return len(children.Watch().hung([_Running("dht", at) for at in heard], now))

    beating = [99.0] * 5
    assert hung(100.0, 97.1, *beating) == 0
    assert hung(100.0, 96.9, *beating) == 1
    assert hung(100.0, 96.9, 96.9, *beating) == 2
    # Heartbeats stop at different moments: the first that is silent for 3 s is not alone.
    assert hung(100.0, 96.9, 97.2, 97.4, 97.6, 97.8, 98.0, 98.2) == 0
    assert hung(100.0, *[93.0] * 7) == 0
    assert hung(100.0, *[89.9] * 7) == 7
    assert hung(100.0, 96.9, *[98.0] * 3, *[99.5] * 4) == 1  # a half is not most
    # With two children one silent is one that hangs, and a lone one never has an excuse.
    assert hung(100.0, 96.9, 99.0) == 1
    assert hung(100.0, 96.9, 96.9) == 0
    assert hung(100.0, 96.9) == 1


def test_when_a_halted_machine_goes_on_each_child_has_its_time_to_be_heard_again() -> None:
    watch = children.Watch()
    rows = [_Running("dht", 95.0) for _ in range(7)]
    assert watch.hung(rows, 100.0) == []
    for row in rows[1:]:
        row.heard = 100.1
    assert watch.hung(rows, 100.2) == []
    for row in rows[1:]:
        row.heard = 103.0
    assert watch.hung(rows, 103.1) == [rows[0]]


def test_each_process_has_a_core_of_its_own_where_there_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cores(count: int, **workers: int) -> list[int | None]:
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(count)))
        settings = Settings(state_dir=tmp_path, workers=workers)
        keys = KeyPair.generate(SystemEntropy())
        node = supervisor.Supervisor(settings, keys, sockets.NodeSockets(), Life.new(settings))
        rows = [child.core for child in node.children]
        node._clean_up()
        return rows

    assert cores(4, dht=1, onion=1, relay=1) == [0, 1, 2, 3]
    assert cores(3, dht=1, onion=1, relay=1) == [None] * 4


def test_a_running_node_outlives_a_system_without_room_for_a_new_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path, workers={"dht": 1})
    keys = KeyPair.generate(SystemEntropy())
    node = supervisor.Supervisor(
        settings,
        keys,
        sockets.NodeSockets(),
        Life.new(settings),
        command=lambda role: ["/bin/true"],
    )
    row = node.children[0]
    before = len(os.listdir("/proc/self/fd"))

    def refuse(*arguments: object, **options: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr("subprocess.Popen", refuse)
        node.spawn(row, 100.0)
        assert "broker cannot be started" in node._failed
        node._failed = ""
        node.listening = True
        node.spawn(row, 100.0)
        assert node._failed == ""
        assert (row.state, row.start_at, row.restarts) == (State.DOWN, 100.1, 2)
    with monkeypatch.context() as patch:
        patch.setattr("os.pidfd_open", refuse)
        node.spawn(row, 101.0)
    assert (row.alive, row.start_at) == (False, 101.2)
    assert len(os.listdir("/proc/self/fd")) == before

    real = subprocess.Popen

    def die_at_once(*arguments: Any, **options: Any) -> "subprocess.Popen[bytes]":
        process: subprocess.Popen[bytes] = real(*arguments, **options)
        process.wait()
        return process

    with monkeypatch.context() as patch:
        patch.setattr("subprocess.Popen", die_at_once)
        patch.setattr("os.pidfd_open", lambda pid: os.open("/dev/null", os.O_RDONLY))
        patch.setattr(node.selector, "register", lambda *row: None)
        node.spawn(row, 102.0)
    assert row.alive
    assert row.reap(102.0) == 0
    node._clean_up()


def test_a_run_directory_whose_names_would_not_fit_lies_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    place = run_directory(deep)
    assert deep not in place.parents
    assert place.stat().st_mode & 0o777 == 0o700
    place.rmdir()
