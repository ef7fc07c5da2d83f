"""What a node is told to do, one frozen value of plain parts; `settings_file` makes it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from toxmesh.nodes import BootstrapNode

PORT_RANGE = range(33445, 33546)  # c-toxcore network.h: TOX_PORTRANGE_FROM, TOX_PORTRANGE_TO
MAX_WORKERS = 64  # of one role: a shard needs at least 4 of the 256 slots
MAX_BROKERS = 16  # one reads what three workers answer, and one role has 64
ROLES = ("dht", "onion", "relay")


def default_count(cores: int | None = None) -> int:
    """Returns how many workers each role gets: a quarter of the cores this process may use."""
    usable = len(os.sched_getaffinity(0)) if cores is None else cores
    return min(MAX_WORKERS, max(1, usable // 4))


def _default_workers() -> Mapping[str, int]:
    return MappingProxyType({role: default_count() for role in ROLES})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one node, checked; the supervisor follows them and nothing changes them."""

    state_dir: Path
    listen: tuple[str, ...] = ()  # addresses without port; empty: 0.0.0.0, and :: if there is any
    udp_port: int | None = None  # None: the first free of PORT_RANGE; 0: off; else it must be free
    tcp_ports: tuple[int, ...] | None = None  # None: as above; empty: off
    bootstrap: tuple[BootstrapNode, ...] = ()  # the shipped list is filled in already
    lan_discovery: bool = True
    motd: str = ""
    relay_connections: int = 20_000  # TCP connections, as far as descriptors allow
    relay_per_address: int = 64  # of them from one address; 0: no limit
    relay_per_prefix: int = 256  # and from one /24 or /64; 0: no limit
    workers: Mapping[str, int] = field(default_factory=_default_workers)  # by role; 0: off
    dispatch: str = "kernel"  # who gives workers their datagrams: the kernel or the broker
    brokers: int = 1  # that read UDP, where the broker dispatches; the first has all TCP
    dev: bool = False
    log_level: str = "info"  # debug, info, warning or error
    log_format: str = "text"  # or json
