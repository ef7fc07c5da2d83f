"""Sockets that a service manager hands over: which are taken, and what is said of the others."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from core.link import dispatch
from core.slots import SlotTable
from toxmesh import activation, sockets
from toxmesh.activation import ActivationError, Inherited
from toxmesh.sockets import BindError

TABLES = {"dht": SlotTable.even(2), "onion": SlotTable.even(1)}
FIRST = 700  # far from what the test runner has open, and under the usual limit of 1,024


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as row:
        yield row


def made(
    stack: ExitStack,
    kind: int = socket.SOCK_DGRAM,
    host: str = "127.0.0.1",
    port: int = 0,
    shared: bool = False,
    both: bool = False,
) -> socket.socket:
    """Opens a socket as a service manager does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    row = stack.enter_context(socket.socket(family, kind))
    if family == socket.AF_INET6:
        row.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not both))
    if shared:
        row.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    row.bind((host, port))
    if kind == socket.SOCK_STREAM:
        row.listen()
    return row


def given(stack: ExitStack, *rows: socket.socket, names: str = "") -> Inherited:
    """Hands sockets over the way systemd does, from a descriptor on that is new in each test."""
    first = FIRST
    while any(is_open(first + index) for index in range(len(rows))):
        first += 50
    for index, row in enumerate(rows):
        os.dup2(row.fileno(), first + index, inheritable=True)
    variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(rows))}
    if names:
        variables["LISTEN_FDNAMES"] = names
    result = activation.inherited(variables, first)
    stack.callback(result.close)
    return result


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_udp_and_tcp_are_found_by_name_and_by_kind(stack: ExitStack) -> None:
    udp, tcp = made(stack), made(stack, socket.SOCK_STREAM)
    for names in ("udp:tcp", "toxmesh.socket:toxmesh.socket", "", "udp"):
        found = given(stack, udp, tcp, names=names)
        assert [row.getsockname() for row in found.udp] == [udp.getsockname()]
        assert [row.getsockname() for row in found.tcp] == [tcp.getsockname()]
        assert not found.udp[0].get_inheritable()
        assert not found.udp[0].getblocking()
        found.close()


def test_what_is_meant_for_another_process_is_left_alone() -> None:
    assert activation.inherited({}) == Inherited()
    assert activation.inherited({"LISTEN_PID": "1", "LISTEN_FDS": "2"}) == Inherited()


@pytest.mark.parametrize("count", ["", "x", "-1", "4096", "٣"])
def test_a_count_that_is_none_is_refused(count: str) -> None:
    variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count}
    with pytest.raises(ActivationError, match="is no number"):
        activation.inherited(variables, FIRST)


def test_every_wrong_socket_is_refused_in_one_sentence(stack: ExitStack, tmp_path: Path) -> None:
    unix = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    unix.bind(str(tmp_path / "socket"))
    deaf = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    deaf.bind(("127.0.0.1", 0))
    unbound = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    cases: list[tuple[socket.socket, str, str]] = [
        (unix, "", "not of IPv4 or IPv6"),
        (deaf, "", "is a TCP connection"),
        (unbound, "", "has no port"),
        (made(stack), "tcp", "of the other kind"),
        (made(stack, socket.SOCK_STREAM), "udp", "of the other kind"),
        (made(stack, host="::", both=True), "", "BindIPv6Only=ipv6-only"),
    ]
    for row, name, reason in cases:
        with pytest.raises(ActivationError, match=reason):
            given(stack, row, names=name)
        assert not is_open(FIRST)
    with pytest.raises(ActivationError, match="same port"):
        given(stack, made(stack), made(stack))


def test_what_is_no_socket_or_not_open_is_refused(tmp_path: Path) -> None:
    variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    with pytest.raises(ActivationError, match="not open"):
        activation.inherited(variables, FIRST)
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    os.dup2(file, FIRST)
    os.close(file)
    with pytest.raises(ActivationError, match="no socket"):
        activation.inherited(variables, FIRST)


def test_what_was_handed_over_is_used_and_the_other_transport_is_bound(stack: ExitStack) -> None:
    udp = made(stack)
    bound = sockets.bind(("127.0.0.1",), None, (0,), given(stack, udp))
    stack.callback(bound.close)
    assert bound.udp_port == udp.getsockname()[1]
    assert [row.getsockname() for row in bound.udp] == [udp.getsockname()]
    assert bound.tcp == []
    assert bound.udp[0].getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 1
    tcp = [made(stack, socket.SOCK_STREAM) for _ in range(2)]
    bound = sockets.bind(("127.0.0.1",), 0, None, given(stack, *tcp))
    stack.callback(bound.close)
    assert bound.udp == []
    assert bound.tcp_ports == tuple(row.getsockname()[1] for row in tcp)


def test_settings_that_say_otherwise_are_a_mistake_and_not_overridden(stack: ExitStack) -> None:
    udp, tcp = made(stack), made(stack, socket.SOCK_STREAM)
    port = udp.getsockname()[1]
    for listen, udp_port, tcp_ports, reason in (
        ((), 1, None, rf"UDP port 1, and UDP port {port} was handed over"),
        ((), 0, None, "UDP port off"),
        ((), None, (1, 2), "TCP port 1, 2"),
        (("127.0.0.2",), None, None, "leave `listen` out"),
    ):
        with pytest.raises(BindError, match=reason) as caught:
            sockets.bind(listen, udp_port, tcp_ports, given(stack, udp, tcp))
        assert caught.value.code == 3
    same = sockets.bind((), port, (tcp.getsockname()[1],), given(stack, udp, tcp))
    assert same.udp_port == port
    same.close()


def reads(row: socket.socket, port: int, data: bytes) -> bool:
    """Tells whether a datagram to the port comes to that socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(data, ("127.0.0.1", port))
    row.settimeout(0.5)
    try:
        return row.recv(2048) == data
    except TimeoutError:
        return False


def test_sockets_of_one_address_become_the_lanes_in_their_order(stack: ExitStack) -> None:
    lanes = dispatch.lanes(TABLES)
    rows = [made(stack, shared=True)]
    port = rows[0].getsockname()[1]
    rows += [made(stack, port=port, shared=True) for _ in range(len(lanes) + 2)]
    bound = sockets.bind(None, None, (0,), given(stack, *rows))
    stack.callback(bound.close)
    assert bound.dispatch_by_kernel(TABLES) == ""
    assert bound.spares == {bound.udp[0]: []}  # two more than needed: closed, and never chosen
    for lane, ours in bound.lanes.items():
        place = 1 + lanes.index(lane)
        assert os.fstat(ours[0].fileno()).st_ino == os.fstat(rows[place].fileno()).st_ino
    (query,) = bound.lanes[dispatch.Lane("dht", 1, "query")]
    assert reads(query, port, b"\x00" + bytes(8) + b"\x01" + bytes(100))
    assert reads(bound.udp[0], port, b"\xf0 nobody's")


def test_one_user_s_single_socket_can_be_joined_as_the_node_s_own(stack: ExitStack) -> None:
    udp = made(stack, shared=True)
    bound = sockets.bind(None, None, (0,), given(stack, udp))
    stack.callback(bound.close)
    assert bound.dispatch_by_kernel(TABLES) == ""
    (query,) = bound.lanes[dispatch.Lane("dht", 0, "query")]
    assert reads(query, udp.getsockname()[1], b"\x00" + bytes(112))


def become_another_user(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the kernel refuse to share the ports of sockets that were opened before."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        stack.callback(os.seteuid, 0)
        return

    def refuse(*arguments: object, shared: bool = False) -> socket.socket:
        raise OSError(errno.EADDRINUSE, "Address already in use")  # what root's test shows for real

    monkeypatch.setattr(sockets, "_bind", refuse)


def test_another_user_s_socket_leaves_dispatch_to_the_broker_and_says_what_helps(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [made(stack, shared=True)]
    port = rows[0].getsockname()[1]
    rows.append(made(stack, port=port, shared=True))
    bound = sockets.bind(None, None, (0,), given(stack, *rows))
    stack.callback(bound.close)
    become_another_user(stack, monkeypatch)
    reason = bound.dispatch_by_kernel(TABLES)
    wanted = 1 + len(dispatch.lanes(TABLES))
    assert f"{wanted} equal lines of ListenDatagram=" in reason
    assert bound.lanes == {}
    bound.share_among_brokers(1)
    for last in range(16):  # the second socket, which nobody reads, gets none of them
        assert reads(bound.udp[0], port, bytes([0, last]) + bytes(112))


def test_a_program_that_an_earlier_run_left_on_the_sockets_does_not_hide_datagrams(
    stack: ExitStack,
) -> None:
    rows = [made(stack, shared=True)]
    port = rows[0].getsockname()[1]
    rows += [made(stack, port=port, shared=True) for _ in dispatch.lanes(TABLES)]
    before = sockets.bind(None, None, (0,), given(stack, *rows))
    assert before.dispatch_by_kernel(TABLES) == ""
    before.close()
    after = sockets.bind(None, None, (0,), given(stack, *rows))
    stack.callback(after.close)
    after.share_among_brokers(1)
    assert reads(after.udp[0], port, b"\x00" + bytes(112))


def test_several_brokers_cannot_share_what_was_handed_over(stack: ExitStack) -> None:
    bound = sockets.bind(None, None, (0,), given(stack, made(stack, shared=True)))
    stack.callback(bound.close)
    with pytest.raises(BindError, match="set brokers = 1"):
        bound.share_among_brokers(2)
