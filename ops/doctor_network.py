"""The network: ports that are free or answered, IPv6, firewalls and tables of connections."""

import errno
import ipaddress
import socket
from collections.abc import Iterator

from ops.doctor_machine import Finding, Machine, fail, ok, warn

PORTS = range(33445, 33546)  # c-toxcore network.h: TOX_PORTRANGE_FROM, TOX_PORTRANGE_TO
_ANSWER_S = 1.0
_FULL = 0.8
_MINE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_KINDS = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}


def ports(machine: Machine) -> Iterator[Finding]:
    """Asks the running node, as a client would; else tries whether the ports are free."""
    if machine.status is not None:
        yield from _answered(machine)
        return
    for name, wanted in (("udp", machine.plan.udp_port), ("tcp", machine.plan.tcp_ports)):
        if wanted is None:
            yield _search(machine, name)
            continue
        for port in (wanted,) if isinstance(wanted, int) else wanted:
            if port:
                yield _try(machine, name, port)


def _bind(kind: str, host: str, port: int) -> int:
    """Binds for a moment; returns 0 or the error's number."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, _KINDS[kind]) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if kind == "tcp":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def _search(machine: Machine, kind: str) -> Finding:
    for port in PORTS:
        if all(_bind(kind, host, port) != errno.EADDRINUSE for host in machine.plan.listen):
            return ok("ports", f"{kind.upper()} port {port} is free, and the node will take it")
    return fail(
        "ports",
        f"no {kind.upper()} port of {PORTS[0]}-{PORTS[-1]} is free",
        f"sudo ss -lnp {'-u' if kind == 'udp' else '-t'} | grep ':33[45]'",
    )


def _try(machine: Machine, kind: str, port: int) -> Finding:
    where = f"{kind.upper()} port {port}"
    for host in machine.plan.listen:
        number = _bind(kind, host, port)
        if number == errno.EADDRINUSE:
            return fail(
                "ports",
                f"{where} on {host} is taken by another process",
                f"sudo ss -lnp {'-u' if kind == 'udp' else '-t'} 'sport = :{port}'",
            )
        if number in (errno.EACCES, errno.EPERM):
            return fail(
                "ports",
                f"{where} is below 1024, which this user may not have",
                f"sudo sysctl -w net.ipv4.ip_unprivileged_port_start={port}",
            )
        if number == errno.EADDRNOTAVAIL and host not in _MINE:
            return fail("ports", f"{host} is no address of this machine", "ip -brief address")
    return ok("ports", f"{where} is free")


def _answered(machine: Machine) -> Iterator[Finding]:
    """A ping and a handshake at each address where the node listens."""
    from core.crypto import PublicKey
    from core.endpoint import from_text, port_of
    from ops import check_relay, check_udp
    from ops.check_asker import Asker
    from ops.check_outcome import GOOD, milliseconds

    node = (machine.status or {}).get("node") or {}
    if node.get("state") == "draining":
        cancel = f"toxmesh ops drain --cancel --state-dir '{machine.state_dir}'"
        yield warn("ports", "the node is drained: it takes nobody new", cancel)
        return
    key = PublicKey(bytes.fromhex(str(node.get("public_key"))))
    for text in node.get("addresses") or ():
        kind, _, address = str(text).partition(" ")
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        place = from_text(_MINE.get(host, host), int(port))
        try:
            if kind == "udp":
                asker = Asker(place, _ANSWER_S)
                outcome = check_udp.ping(asker, place, key)
                asker.close()
            else:
                outcome = check_relay.tcp(place, port_of(place), key, _ANSWER_S)
        except OSError as error:
            yield fail("ports", f"{text} cannot be asked: {error.strerror}", "ip -brief address")
            continue
        if outcome.verdict == GOOD:
            yield ok("ports", f"{text} answers in {milliseconds(outcome.rtt_s)}")
        else:
            yield fail(
                "ports",
                f"{text}: {outcome.text}",
                f"toxmesh ops status --state-dir '{machine.state_dir}'",
            )


def ipv6(machine: Machine) -> Iterator[Finding]:
    """Half of the network can be reached by IPv6 as well."""
    rows = machine.read("proc/net/if_inet6")
    if rows is None:
        yield ok("ipv6", "this system has none: the node serves IPv4 alone")
        return
    if machine.whole_number("proc/sys/net/ipv6/conf/all/disable_ipv6") == 1:
        yield warn(
            "ipv6", "is switched off", "sudo sysctl -w net.ipv6.conf.all.disable_ipv6=0"
        )
        return
    found = [ipaddress.IPv6Address(bytes.fromhex(row.split()[0])) for row in rows.splitlines()]
    public = [address for address in found if address.is_global]
    if not public:
        yield ok("ipv6", "no address that the world reaches: the node serves IPv4 alone")
        return
    node = (machine.status or {}).get("node") or {}
    bound = [str(row) for row in node.get("addresses") or ()]
    listens = any("[" in row for row in bound) if bound else any(
        ":" in host for host in machine.plan.listen
    )  # fmt: skip
    if listens:
        yield ok("ipv6", f"{len(public)} public addresses")
    else:
        yield warn(
            "ipv6",
            f"this machine has {public[0]}, and the node listens on IPv4 alone",
            "toxmesh run --listen 0.0.0.0 --listen ::   # or `listen` in the file",
        )


def firewall(machine: Machine) -> Iterator[Finding]:
    """What stands between the node and the world on this machine, as far as files tell."""
    conf = machine.read("etc/ufw/ufw.conf") or ""
    node = (machine.status or {}).get("node") or {}
    port = node.get("udp_port") or machine.plan.udp_port or PORTS[0]
    if "ENABLED=yes" in conf.replace(" ", ""):
        rules = machine.read("etc/ufw/user.rules")
        if rules is not None and f"--dport {port} " not in rules:
            yield warn(
                "firewall", f"ufw is on and has no rule for port {port}", f"sudo ufw allow {port}"
            )
        else:
            yield ok("firewall", f"ufw is on; from outside: toxmesh ops check all HOST:{port}:KEY")
    count = machine.whole_number("proc/sys/net/netfilter/nf_conntrack_count")
    most = machine.whole_number("proc/sys/net/netfilter/nf_conntrack_max")
    if count is None or most is None:
        return
    text = f"the kernel follows {count:,} of {most:,} connections"
    if count > _FULL * most:
        yield warn(
            "firewall",
            f"{text}: when that is full, packets of new peers are dropped",
            f"sudo sysctl -w net.netfilter.nf_conntrack_max={4 * most}",
        )
    else:
        yield ok("firewall", text)
