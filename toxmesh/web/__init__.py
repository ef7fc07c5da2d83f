"""What a node shows by HTTP: metrics, health, status, and a live page; read only, for loopback."""

import selectors
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor
    from toxmesh.web.door import WebDoor


def open_door(
    node: "Supervisor", selector: selectors.BaseSelector, descriptor: int = -1
) -> "WebDoor":
    """Opens the web door of a node, where its settings want one.

    `descriptor`: the listening socket that the version before has left.
    """
    from toxmesh.web.address import parse
    from toxmesh.web.door import WebDoor
    from toxmesh.web.pages import Pages

    address = parse(node.settings.http)
    drops = node.totals.drops
    return WebDoor(address, selector, Pages(node), drops, time.monotonic(), descriptor)
