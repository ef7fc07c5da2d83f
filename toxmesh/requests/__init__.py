"""What may be asked at the control door, by group; docs/operations.md says what each answers."""

from typing import TYPE_CHECKING

from toxmesh.control import Request
from toxmesh.requests import (
    act,
    bans,
    change,
    identities,
    limits,
    logs,
    look,
    onion,
    protocol,
    relay,
    remote,
    report,
    see,
    services,
)

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

_GROUPS = (
    *(see, look, logs, act, change, protocol, onion, relay, report, remote),
    *(bans, services, limits, identities),
)


def all_of(node: "Supervisor") -> dict[str, Request]:
    """Returns every request that this node answers, by name."""
    return {name: request for group in _GROUPS for name, request in group.requests(node).items()}
