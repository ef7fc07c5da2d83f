"""Signs that somebody is about to surround this node: too many nodes of one place, or too near.

Two things cannot be had for nothing: addresses in many networks, and a key that is near ours. So
what is counted is how the known nodes spread over prefixes of addresses, and whether more keys are
near our own than chance would put there. A sign is no proof: a small network, or a large hoster,
may give one.
"""

import ipaddress
from collections import Counter
from collections.abc import Iterable, Sequence
from math import comb
from typing import Any

from core.dht.distance import KEY_BITS
from core.endpoint import Endpoint, ip_of, is_ipv4, is_lan

PREFIXES = ((4, 8), (4, 16), (4, 24), (4, 32), (6, 32), (6, 48), (6, 64))
"""Families and bits of the prefixes that are counted."""

MOST_SHARE = {
    (4, 8): 0.5,
    (4, 16): 0.25,
    (4, 24): 0.1,
    (4, 32): 0.1,
    (6, 32): 0.5,
    (6, 48): 0.1,
    (6, 64): 0.1,
}
"""Shares beyond which one prefix is a sign. Chosen, not measured: an operator of a /16 who wants
every second place of a bucket is seen; hosters that have a tenth of all nodes are not."""

LEAST_NODES = 16  # fewer tell nothing
_LEAST_IN_PREFIX = 4

NEAREST = 32  # nodes by whose distances is judged
_KNOWN_FACTOR = 8
"""How many times as many nodes as are known may live as far away as the farthest of the nearest 32:
a bucket keeps 8 of them, and a power of two more for reckoning in whole bits."""
UNLIKELY = 1e-4  # a chance below it is a sign: one honest table in some thousand


def by_prefix(nodes: Iterable[tuple[bytes, Endpoint]], most: int) -> list[dict[str, Any]]:
    """Returns how nodes (key, public address) spread, a row for each kind of prefix.

    `most`: how many prefixes are named in each row, those with the most nodes first.
    """
    addresses: dict[int, set[tuple[bytes, bytes]]] = {4: set(), 6: set()}
    for key, endpoint in nodes:
        addresses[4 if is_ipv4(endpoint) else 6].add((ip_of(endpoint), key))
    rows = []
    for family, bits in PREFIXES:
        total = len(addresses[family])
        counts = Counter(ip[: bits // 8] for ip, _ in addresses[family])
        top = [
            {"prefix": _text(family, head, bits), "nodes": count, "share": round(count / total, 4)}
            for head, count in sorted(counts.items(), key=lambda row: (-row[1], row[0]))[:most]
        ]
        rows.append(
            {
                "family": f"ipv{family}",
                "bits": bits,
                "nodes": total,
                "prefixes": len(counts),
                "greatest_share": max(counts.values()) / total if total else 0.0,
                "top": top,
            }
        )
    return rows


def _text(family: int, head: bytes, bits: int) -> str:
    size = 4 if family == 4 else 16
    return f"{ipaddress.ip_address(head.ljust(size, bytes(1)))}/{bits}"


def chance_of(count: int, of: int, share: float) -> float:
    """Returns how likely it is that at least `count` of `of` fall into a `share` of the space."""
    if share >= 1.0 or count <= 0:
        return 1.0
    below = sum(comb(of, n) * share**n * (1.0 - share) ** (of - n) for n in range(count, of + 1))
    return min(1.0, below)


def by_distance(distances: Sequence[int]) -> list[dict[str, Any]]:
    """Returns how near the nearest nodes are: a row for each number of leading bits shared with us.

    `distances` are those of all good nodes from our key. If keys are random, of all nodes nearer
    than the 32nd each bit less leaves half, however large the network is. `chance` says how likely
    it is that so many are so near, with every doubt in favour of the nodes.
    """
    near = sorted(distances)[:NEAREST]
    if len(near) < LEAST_NODES:
        return []
    bits = [KEY_BITS - distance.bit_length() for distance in near]
    farthest = bits[-1]
    rows = []
    for least in sorted(set(bits)):
        count = sum(other >= least for other in bits)
        share = _KNOWN_FACTOR / 2.0 ** (least - farthest)
        chance = chance_of(count, len(near) - 1, share) if least > farthest else 1.0
        rows.append({"shared_bits": least, "nodes": count, "chance": float(f"{chance:.2g}")})
    return rows


def public_nodes(nodes: Iterable[tuple[bytes, Endpoint]]) -> list[tuple[bytes, Endpoint]]:
    """Returns those whose address is not one of a local network."""
    return [(key, endpoint) for key, endpoint in nodes if not is_lan(endpoint)]


def signs(
    prefixes: Iterable[dict[str, Any]], near: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Returns what an operator should look at: `what` (a word) and `text` (a sentence)."""
    found = []
    for row in prefixes:
        limit = MOST_SHARE[int(row["family"][-1]), row["bits"]]
        if row["nodes"] < LEAST_NODES:
            continue
        for top in row["top"][:1]:
            if top["nodes"] >= _LEAST_IN_PREFIX and row["greatest_share"] > limit:
                text = (
                    f"{top['nodes']} of {row['nodes']} {row['family']} nodes "
                    f"({top['share']:.0%}) are in {top['prefix']}"
                )
                found.append({"what": "prefix", "text": text})
    unlikely = [row for row in near if row["chance"] < UNLIKELY]
    if unlikely:
        row = min(unlikely, key=lambda row: row["chance"])
        text = (
            f"{row['nodes']} keys share {row['shared_bits']} or more leading bits with ours; "
            f"the chance of that is {row['chance']:.1g}"
        )
        found.append({"what": "keys", "text": text})
    return found
