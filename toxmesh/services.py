"""Which services of a running node are on, and switching them without a restart.

What is off stands in the setting `services_off`; a switch changes it in the running node alone, so
that a restart or a reload brings back what the settings file says.
"""

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from core.asking import REFUSED, USAGE
from core.services import ANNOUNCE, DATA, FORWARD, LAN, ONION, RELAY, SERVICES
from toxmesh.control import Refused
from toxmesh.reload import tell_children, with_value

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

ON, OFF, ABSENT = "on", "off", "absent"

log = logging.getLogger("toxmesh.supervisor")


def why_absent(node: "Supervisor", service: str) -> str:
    """Returns why a node cannot have a service before its settings change; empty: it can."""
    settings, bound = node.settings, node.bound
    if service == RELAY:
        if not bound.tcp_ports:
            return "no TCP port is open (setting tcp_ports)"
        return "" if settings.workers.get("relay") else "there are no relay workers (workers.relay)"
    if not bound.udp_port:
        return "no UDP port is open (setting udp_port)"
    if service in (ONION, ANNOUNCE, DATA, FORWARD) and not settings.workers.get("onion"):
        return "there are no onion workers (workers.onion)"
    if service == LAN:
        if not settings.workers.get("dht"):
            return "there are no dht workers (workers.dht)"
        return "" if settings.lan_discovery else "the setting lan_discovery is false"
    return ""


def states(node: "Supervisor") -> dict[str, str]:
    """Returns `on`, `off` or `absent` (the node is set up without it) by the name of the service.
    """
    off = node.settings.services_off
    return {
        name: ABSENT if why_absent(node, name) else OFF if name in off else ON
        for name in SERVICES
    }


def switch(node: "Supervisor", names: Collection[str], on: bool) -> list[str]:
    """Switches services and returns those that were not so before. Raises Refused."""
    unknown = [name for name in names if name not in SERVICES]
    if unknown or not names:
        known = ", ".join(SERVICES)
        word = f"{unknown[0][:60]} is no service" if unknown else "no service is named"
        raise Refused(USAGE, f"{word}; services are {known}")
    for name in names:
        why = why_absent(node, name)
        if why:
            raise Refused(REFUSED, f"this node is set up without {name}: {why}")
    before = set(node.settings.services_off)
    after = before - set(names) if on else before | set(names)
    if after != before:
        node.settings = with_value(node.settings, "services_off", tuple(sorted(after)))
        tell_children(node)
    changed = [name for name in SERVICES if name in before ^ after]
    for name in changed:
        log.info("the service %s is %s now", name, ON if on else OFF)
    return changed
