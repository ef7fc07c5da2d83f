"""The node's sockets: bound once by the supervisor, kept while broker and workers come and go.

Or handed over by the service manager (`toxmesh.activation`), which keeps them beyond the node.
"""

import errno
import ipaddress
import socket
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from core import endpoint
from core.link import dispatch
from core.link.dispatch import KernelQueue, Lane
from core.slots import SlotTable
from toxmesh.activation import Inherited
from toxmesh.settings import PORT_RANGE

_BUFFER = 4 << 20  # bytes; the kernel gives less where net.core.rmem_max says so
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33  # Linux asm-generic/socket.h; socket has no names
_BACKLOG = 1024
ALL_ADDRESSES = ("0.0.0.0", "::")


class BindError(Exception):
    """A socket cannot be had; the text is one plain sentence, `code` the exit code."""

    def __init__(self, text: str, code: int = 3) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class NodeSockets:
    """All sockets of a node; a UDP socket is named by its index here."""

    udp: list[socket.socket] = field(default_factory=list)
    tcp: list[socket.socket] = field(default_factory=list)
    udp_port: int = 0  # 0: off
    tcp_ports: tuple[int, ...] = ()
    lanes: dict[Lane, list[socket.socket]] = field(default_factory=dict)
    """Kernel dispatch: the sockets of each lane, one for each of `udp` and in that order."""
    places: dict[Lane, int] = field(default_factory=dict)
    """The number of each lane's socket in its group. Numbers stay: what is closed would make the
    kernel give its number to another socket, so lanes that are not needed any more are parked."""
    parked: dict[Lane, list[socket.socket]] = field(default_factory=dict)
    _told_drops: dict[socket.socket, int] = field(default_factory=dict)
    readers: list[list[socket.socket]] = field(default_factory=list)
    """Several brokers: the sockets of each one but the first, in the order of `udp`."""
    spares: dict[socket.socket, list[socket.socket]] = field(default_factory=dict)
    """Handed over: further sockets of the same address as one of `udp`, in their group's order."""

    def to_body(self) -> dict[str, Any]:
        """Returns all of them as plain data, for a process image that has the descriptors too."""
        return {
            "udp": _numbers(self.udp),
            "tcp": _numbers(self.tcp),
            "udp_port": self.udp_port,
            "tcp_ports": list(self.tcp_ports),
            "lanes": [[list(lane), _numbers(rows)] for lane, rows in self.lanes.items()],
            "parked": [[list(lane), _numbers(rows)] for lane, rows in self.parked.items()],
            "places": [[list(lane), place] for lane, place in self.places.items()],
            "told_drops": [[row.fileno(), count] for row, count in self._told_drops.items()],
            "from_unit": bool(self.spares),
            "readers": [_numbers(rows) for rows in self.readers],
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "NodeSockets":
        """Goes on with what `to_body` named."""
        udp = _sockets(body["udp"])
        lanes = {Lane(*lane): _sockets(rows) for lane, rows in body["lanes"]}
        parked = {Lane(*lane): _sockets(rows) for lane, rows in body["parked"]}
        groups = [*lanes.values(), *parked.values()]
        by_fd = {row.fileno(): row for group in groups for row in group}
        return cls(
            udp=udp,
            tcp=_sockets(body["tcp"]),
            udp_port=body["udp_port"],
            tcp_ports=tuple(body["tcp_ports"]),
            lanes=lanes,
            parked=parked,
            places={Lane(*lane): place for lane, place in body["places"]},
            spares={row: [] for row in udp} if body["from_unit"] else {},
            _told_drops={by_fd[fd]: count for fd, count in body["told_drops"] if fd in by_fd},
            readers=[_sockets(rows) for rows in body["readers"]],
        )

    def close(self) -> None:
        """Closes all of them."""
        self._close_groups()
        for row in self.udp + self.tcp:
            row.close()
        self._close_spares()

    def _close_spares(self) -> None:
        for rows in self.spares.values():
            for row in rows:
                row.close()
        self.spares = {main: [] for main in self.spares}

    def _close_groups(self) -> None:
        for rows in [*self.lanes.values(), *self.parked.values(), *self.readers]:
            for row in rows:
                row.close()
        self.lanes = {}
        self.parked = {}
        self.places = {}
        self.readers = []

    def _join(self, main: socket.socket) -> socket.socket:
        """Returns one more socket with the address of `main`: handed over, else bound now.

        `main` was bound alone, which fails where another process has the port; now it is shared.
        The kernel lets one user's sockets share an address, never two users': where the manager
        (root) opened it, it has to open all of them. Raises OSError.
        """
        if self.spares.get(main):
            return self.spares[main].pop(0)
        main.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        host, port = main.getsockname()[:2]
        return _bind(socket.SOCK_DGRAM, host, port, shared=True)

    def dispatch_by_kernel(self, tables: Mapping[str, SlotTable]) -> str:
        """Gives each lane sockets of its own, which the kernel fills.

        Returns why that cannot be (then nothing has changed, and the broker dispatches), or "".
        """
        try:
            for number, lane in enumerate(dispatch.lanes(tables), 1):
                self.lanes[lane] = []
                self.places[lane] = number
                for main in self.udp:
                    self.lanes[lane].append(self._join(main))
            if self.lanes:
                code = dispatch.program(tables)
                for main in self.udp:
                    dispatch.attach(main, code)
        except OSError as error:
            self._close_groups()
            if self.spares and error.errno == errno.EADDRINUSE:
                return (
                    f"UDP port {self.udp_port} was opened by another user: its .socket unit needs"
                    " ReusePort=yes and, for each address,"
                    f" {1 + len(dispatch.lanes(tables))} equal lines of ListenDatagram="
                )
            return (error.strerror or "it is not supported").lower()
        self._close_spares()
        return ""

    def add_lanes(self, tables: Mapping[str, SlotTable]) -> None:
        """Makes the sockets of lanes that are new in `tables`; they get nothing before `follow`.

        Raises BindError where that cannot be; then nothing has changed.
        """
        missing = [lane for lane in dispatch.lanes(tables) if lane not in self.lanes]
        if self.spares and any(lane not in self.parked for lane in missing):
            raise BindError(
                f"the sockets of UDP port {self.udp_port} come from a .socket unit, which has none"
                " for more processes; change its ListenDatagram= lines and start the node again"
            )
        group: list[socket.socket] = []
        try:
            for lane in missing:
                if lane in self.parked:
                    continue
                group = []
                for main in self.udp:
                    group.append(self._join(main))
                    dispatch.refuse_all(group[-1], True)
                self.places[lane] = 1 + len(self.places)
                self.parked[lane] = group
        except OSError as error:
            # What is whole keeps its number, and is there when it is tried again.
            if group not in self.parked.values():
                for row in group:  # the last ones of their groups: the others' numbers stay
                    row.close()
            reason = (error.strerror or "?").lower()
            raise BindError(f"no more sockets for UDP port {self.udp_port}: {reason}") from None
        for lane in missing:
            self.lanes[lane] = self.parked.pop(lane)
            for row in self.lanes[lane]:
                with suppress(OSError):
                    dispatch.refuse_all(row, False)
                self._told_drops[row] = dispatch.kernel_queue(row).drops

    def follow(self, tables: Mapping[str, SlotTable]) -> None:
        """Lets the kernel dispatch by other tables, whose lanes are all there: at once, for each
        listen address. Raises OSError."""
        code = dispatch.program(tables, self.places)
        for main in self.udp:
            dispatch.attach(main, code)

    def park_lanes(self, tables: Mapping[str, SlotTable]) -> Counter[str]:
        """Puts the sockets of lanes aside that are not in `tables`: nobody reads them any more.

        Returns what they have dropped, by reason: it is not told by `kernel_queues` any more.
        """
        known = set(dispatch.lanes(tables))
        drops: Counter[str] = Counter()
        for lane in [lane for lane in self.lanes if lane not in known]:
            self.parked[lane] = self.lanes.pop(lane)
            for row in self.parked[lane]:
                count = self._queue(row).drops
                if count:
                    drops[f"kernel_full:{lane.role}:{lane.name}"] += count
                with suppress(OSError):  # else broadcasts wait there for nobody, up to its buffer
                    dispatch.refuse_all(row, True)
        return drops

    def _queue(self, row: socket.socket) -> KernelQueue:
        """Returns a socket's queue, without drops from before it was parked."""
        size, drops = dispatch.kernel_queue(row)
        return KernelQueue(size, drops - self._told_drops.get(row, 0))

    def share_among_brokers(self, count: int) -> None:
        """Makes sockets for `count` brokers; the kernel spreads senders over them.

        Raises BindError where the system cannot do that.
        """
        if self.spares:
            self._read_alone(count)
        try:
            for _ in range(count - 1):
                self.readers.append([])
                for main in self.udp:
                    self.readers[-1].append(self._join(main))
        except OSError as error:
            self._close_groups()
            reason = (error.strerror or "?").lower()
            raise BindError(
                f"{count} brokers cannot share UDP port {self.udp_port} ({reason}); set brokers = 1"
            ) from None

    def _read_alone(self, count: int) -> None:
        """Lets the first of several sockets that were handed over have all datagrams.

        The manager keeps the others open, where nobody would read what the kernel gives them.
        """
        if count > 1:
            raise BindError(
                f"brokers = {count} cannot share the UDP sockets of a .socket unit; set brokers = 1"
            )
        for main, others in self.spares.items():
            if main.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
                with suppress(OSError):  # bound alone: then there is no group, and no program
                    dispatch.attach(main, dispatch.program({}))
            elif others:
                raise BindError(
                    f"UDP port {self.udp_port} was handed over several times without ReusePort=yes"
                )
        self._close_spares()

    def kernel_queues(self) -> list[tuple[str, str, KernelQueue]]:
        """Returns the name of the reader (as in `status`), the class ("" for all) and the queue."""
        rows = [("broker", "", row) for row in self.udp]
        rows += [
            (f"broker.{number}", "", row)
            for number, group in enumerate(self.readers, 1)
            for row in group
        ]
        rows += [
            (f"{lane.role}.{lane.shard}", lane.name, row)
            for lane, group in self.lanes.items()
            for row in group
        ]
        return [(reader, name, self._queue(row)) for reader, name, row in rows]

    def families(self) -> tuple[int, ...]:
        """Returns the address family of each UDP socket."""
        return tuple(int(row.family) for row in self.udp)

    def on_loopback(self, family: int) -> bool:
        """Tells whether what is sent unasked cannot leave this machine: it goes through the first
        UDP socket of the family.
        """
        for row in self.udp:
            if row.family == family:
                return ipaddress.ip_address(row.getsockname()[0].partition("%")[0]).is_loopback
        return False

    def addresses(self) -> list[str]:
        """Returns what is listened on, as `udp 0.0.0.0:33445`."""
        rows = [("udp", row) for row in self.udp] + [("tcp", row) for row in self.tcp]
        texts = []
        for name, row in rows:
            host, port = row.getsockname()[:2]
            texts.append(f"{name} {endpoint.to_text(endpoint.from_text(host, port))}")
        return texts


def _numbers(rows: Iterable[socket.socket]) -> list[dict[str, int]]:
    return [{"fd": row.fileno()} for row in rows]


def _sockets(rows: Iterable[Mapping[str, int]]) -> list[socket.socket]:
    return [socket.socket(fileno=row["fd"]) for row in rows]


def _bind(
    kind: socket.SocketKind, host: str, port: int, shared: bool = False
) -> socket.socket:
    """Binds one socket; `shared`: beside others of this node on the same port.

    The first is never bound with SO_REUSEPORT: it would hide that another process has the port.
    """
    version = ipaddress.ip_address(host).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    row = socket.socket(family, kind)
    try:
        if version == 6:
            row.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_DGRAM:
            _prepare(row)
        else:
            row.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past TIME_WAIT alone
        if shared:
            row.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        row.bind((host, port))
        if kind == socket.SOCK_STREAM:
            row.listen(_BACKLOG)
        row.setblocking(False)
    except OSError:
        row.close()
        raise
    return row


def _prepare(udp: socket.socket) -> None:
    """Gives a UDP socket its buffers, and leave to broadcast."""
    for plain, forced in (
        (socket.SO_RCVBUF, _SO_RCVBUFFORCE),
        (socket.SO_SNDBUF, _SO_SNDBUFFORCE),
    ):
        udp.setsockopt(socket.SOL_SOCKET, plain, _BUFFER)
        with suppress(OSError):  # past rmem_max, for a user that may
            udp.setsockopt(socket.SOL_SOCKET, forced, _BUFFER)
    if udp.family == socket.AF_INET:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)  # LAN discovery


def _explain(error: OSError, kind: socket.SocketKind, host: str, port: int) -> str:
    """Says why a socket cannot be had, and what to do."""
    transport = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
    option = "--udp-port" if kind == socket.SOCK_DGRAM else "--tcp-port"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{transport} port {port} on {host} is taken by another process;"
            f" stop that one or choose another port with {option}"
        )
    if error.errno == errno.EACCES:
        return f"{transport} port {port} on {host} is not allowed for this user; use one above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; --listen takes one that is"
    if error.errno == errno.EAFNOSUPPORT:
        return f"this machine has no support for {host}; --listen takes an address it has"
    return f"{transport} port {port} on {host} cannot be bound: {(error.strerror or '?').lower()}"


def _bind_all(
    kind: socket.SocketKind, hosts: Iterable[str], port: int, strict: bool
) -> list[socket.socket]:
    """Binds a port on all addresses; where not `strict`, a machine without IPv6 is no mistake."""
    rows: list[socket.socket] = []
    try:
        for host in hosts:
            try:
                row = _bind(kind, host, port)
            except OSError as error:
                absent = error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
                if absent and not strict and ":" in host:
                    continue
                code = 5 if error.errno == errno.EACCES else 3
                raise BindError(_explain(error, kind, host, port), code) from None
            rows.append(row)
    except BindError:
        for row in rows:
            row.close()
        raise
    return rows


def _check_agreement(
    given: Inherited,
    listen: tuple[str, ...] | None,
    udp_port: int | None,
    tcp_ports: tuple[int, ...] | None,
) -> None:
    """Raises BindError where settings say otherwise than what was handed over."""
    rows = {"UDP": (given.udp, None if udp_port is None else {udp_port} - {0})}
    rows["TCP"] = (given.tcp, None if tcp_ports is None else set(tcp_ports))
    for name, (handed, wanted) in rows.items():
        ports = {row.getsockname()[1] for row in handed}
        if handed and wanted is not None and ports != wanted:
            said = ", ".join(map(str, sorted(wanted))) or "off"
            raise BindError(
                f"the settings have {name} port {said}, and {name} port"
                f" {', '.join(map(str, sorted(ports)))} was handed over by the .socket unit;"
                " leave the ports out of the settings"
            )
        for row in handed:
            if listen and row.getsockname()[0] not in listen:
                raise BindError(
                    f"the .socket unit hands over {name} on {row.getsockname()[0]}, and the"
                    f" settings listen on {', '.join(listen)} alone; leave `listen` out of them"
                )


def _take(given: Inherited, result: NodeSockets) -> None:
    """Makes what was handed over the node's own; of an address's UDP sockets the first is read."""
    mains: dict[str, socket.socket] = {}
    for row in given.udp:
        _prepare(row)
        main = mains.setdefault(row.getsockname()[0], row)
        if main is row:
            result.udp.append(row)
            result.spares[row] = []
        else:
            result.spares[main].append(row)
        result.udp_port = row.getsockname()[1]
    result.tcp += given.tcp
    result.tcp_ports = tuple(dict.fromkeys(row.getsockname()[1] for row in given.tcp))


def bind(
    listen: tuple[str, ...] | None,
    udp_port: int | None,
    tcp_ports: tuple[int, ...] | None,
    given: Inherited | None = None,
) -> NodeSockets:
    """Binds all sockets of a node, but for the transports that were `given`. Raises BindError.

    A port that is None is searched in PORT_RANGE; UDP and TCP get the same if both are.
    """
    hosts = listen if listen else ALL_ADDRESSES
    strict = bool(listen)
    result = NodeSockets()
    if given is not None:
        _check_agreement(given, listen, udp_port, tcp_ports)
        _take(given, result)
        udp_port = 0 if given.udp else udp_port  # those are not bound
        tcp_ports = () if given.tcp else tcp_ports
    try:
        if udp_port:
            result.udp = _bind_all(socket.SOCK_DGRAM, hosts, udp_port, strict)
            result.udp_port = udp_port
        for port in tcp_ports or ():
            if port:
                result.tcp += _bind_all(socket.SOCK_STREAM, hosts, port, strict)
                result.tcp_ports += (port,)
        if udp_port is None or tcp_ports is None:
            _search(result, hosts, strict, udp_port is None, tcp_ports is None)
    except BindError:
        result.close()
        raise
    return result


def _search(
    result: NodeSockets, hosts: tuple[str, ...], strict: bool, want_udp: bool, want_tcp: bool
) -> None:
    """Finds the first port of the range that is free for what is wanted."""
    reason = ""
    for port in PORT_RANGE:
        udp: list[socket.socket] = []
        try:
            if want_udp:
                udp = _bind_all(socket.SOCK_DGRAM, hosts, port, strict)
            if want_tcp:
                result.tcp += _bind_all(socket.SOCK_STREAM, hosts, port, strict)
        except BindError as error:
            for row in udp:
                row.close()
            reason = str(error)
            if "is taken" not in reason:
                raise
            continue
        if want_udp:
            result.udp, result.udp_port = udp, port
        if want_tcp:
            result.tcp_ports += (port,)
        return
    with suppress(IndexError):
        reason = f"no port of {PORT_RANGE[0]}-{PORT_RANGE[-1]} is free; the last one: {reason}"
    raise BindError(reason)
