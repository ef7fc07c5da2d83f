"""Which identities a node hosts, and what their workers are told about it."""

import ipaddress
import os
from dataclasses import replace
from pathlib import Path

from core.bootstrap_node import BootstrapNode
from core.module import NodeOptions
from core.savedata.encrypted import MAGIC, is_encrypted
from toxmesh.identity.names import is_name
from toxmesh.identity.profiles import SUFFIX, ProfileError
from toxmesh.settings import Identities, Settings
from toxmesh.sockets import ALL_ADDRESSES, NodeSockets

_ACTS = ("accept", "echo")


def profiles(identities: Identities) -> tuple[str, ...]:
    """Returns the files of the profiles that are hosted, sorted. Raises ProfileError."""
    directory = Path(identities.directory)
    try:
        found = {Path(name).stem for name in os.listdir(directory) if name.endswith(SUFFIX)}
    except OSError as error:
        raise _unreadable(str(directory), error) from None
    missing = [name for name in identities.profiles if name not in found]
    if missing:
        raise ProfileError(f"there is no {directory / missing[0]}{SUFFIX}")
    wanted = identities.profiles or tuple(name for name in found if is_name(name))
    if not wanted:
        raise ProfileError(
            f"there is no profile NAME{SUFFIX} in {directory}; make one with:"
            " toxmesh identity create NAME"
        )
    return tuple(str(directory / (name + SUFFIX)) for name in sorted(wanted))


def check(identities: Identities) -> None:
    """Says what would keep a node from its identities, before it begins. Raises ProfileError."""
    secret = identities.passphrase_file
    encrypted = [file for file in profiles(identities) if is_encrypted(_head(file))]
    if encrypted and not secret:
        raise ProfileError(f"{encrypted[0]} is encrypted; set identities.passphrase_file")
    if secret:
        _head(secret)


def _head(file: str) -> bytes:
    try:
        with open(file, "rb") as stream:
            return stream.read(len(MAGIC))
    except OSError as error:
        raise _unreadable(file, error) from None


def _unreadable(what: str, error: OSError) -> ProfileError:
    reason = (error.strerror or str(error)).lower()
    code = 5 if isinstance(error, PermissionError) else 3
    return ProfileError(f"{what} cannot be read: {reason}", code)


def options_for(
    options: NodeOptions, settings: Settings, bound: NodeSockets, key: bytes
) -> NodeOptions:
    """Returns what a messenger process is told, beside what all processes are."""
    chosen = settings.identities
    try:
        files = profiles(chosen)
    except ProfileError:  # they were there at the start; what is gone is said by who opens it
        files = tuple(
            str(Path(chosen.directory) / (name + SUFFIX)) for name in chosen.profiles
        )
    hosts = _hosts(settings.listen)
    relays = [
        str(BootstrapNode(host, port, key))
        for host in hosts
        if not ipaddress.ip_address(host).is_unspecified  # friends would be told of no place
        for port in bound.tcp_ports
    ]
    udp = [str(BootstrapNode(_nearest(host), bound.udp_port, key)) for host in hosts]
    return replace(
        options,
        identities=files,
        identity_passphrase=chosen.passphrase_file,
        identity_acts=tuple(name for name in _ACTS if getattr(chosen, name)),
        identity_ports=chosen.udp_ports,
        identity_hosts=hosts,
        identity_nodes=(
            *(udp if bound.udp_port else ()),
            *(str(node) for node in settings.bootstrap),
        ),
        identity_relays=tuple(relays),
    )


def _hosts(listen: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the first address of each family that the node listens on."""
    by_version: dict[int, str] = {}
    for text in listen or ALL_ADDRESSES:
        by_version.setdefault(ipaddress.ip_address(text).version, text)
    return tuple(by_version.values())


def _nearest(host: str) -> str:
    """Returns where the node itself is reached from this machine."""
    address = ipaddress.ip_address(host)
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"
