"""How programs name friends, and where nodes with names are."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from core.bootstrap_node import BootstrapNode
from core.crypto import KEY_SIZE, PublicKey
from core.endpoint import Endpoint, from_text
from core.packets.nodes import NodeInfo
from core.tox_id import ToxId

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0

Friend = PublicKey | bytes | str | ToxId
"""Who is meant: a public key of 32 bytes, its 64 hexadecimal digits, or a Tox ID."""

log = logging.getLogger("toxmesh.identity")


def key_of(friend: Friend) -> PublicKey:
    """Returns the public key that is meant. Raises ValueError."""
    if isinstance(friend, ToxId):
        return friend.key
    if isinstance(friend, str):
        if len(friend) != 2 * KEY_SIZE:
            return ToxId.parse(friend).key
        return PublicKey(bytes.fromhex(friend))
    if len(friend) != KEY_SIZE:
        raise ValueError(f"a public key has {KEY_SIZE} bytes, not {len(friend)}")
    return PublicKey(friend)


async def find_nodes(
    wanted: Sequence[tuple[BootstrapNode, bool]],
    resolves: bool,
    found: Callable[[list[NodeInfo]], None],
) -> None:
    """Tells `found` the addresses of nodes (True: TCP relays), each tried until it is known.

    `resolves`: names may be looked up; else nodes with names are left out.
    """
    pause = _FIRST_PAUSE_S
    left = list(wanted)
    while left:
        missing = []
        for node, tcp in left:
            endpoints = await _resolve(node.host, node.port, resolves)
            if endpoints is None:
                missing.append((node, tcp))
            else:
                found([NodeInfo(PublicKey(node.key), endpoint, tcp) for endpoint in endpoints])
        left = missing
        if left:
            names = ", ".join(sorted({node.host for node, _ in left}))
            log.warning("no address is known of %s; trying again in %.0f s", names, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)


async def _resolve(host: str, port: int, resolves: bool) -> list[Endpoint] | None:
    """Returns the addresses of a host; None: they are not known yet."""
    try:
        return [from_text(host, port)]
    except ValueError:
        pass
    if not resolves:
        return []
    try:
        rows = await asyncio.get_running_loop().getaddrinfo(host, port)
    except OSError:
        return None
    return list({from_text(str(row[4][0]).partition("%")[0], port): None for row in rows})
