"""`toxmesh ops routes`: which process takes which datagram, and who has a key."""

from pathlib import Path
from typing import Any

import click

from ops import client, options, screen

_ROUTE_LINES = 10_000


def _ranges(ranges: dict[str, list[list[int]]], even: bool) -> list[str]:
    """Returns the slots of each shard in words."""
    count = len(ranges)
    if count == 1:
        return ["all 256 slots"]
    if even:
        return [
            ", ".join(str(shard + turn * count) for turn in range(3)) + ", ..."
            for shard in range(count)
        ]
    return [
        ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in rows)
        for rows in ranges.values()
    ]


def page(answer: dict[str, Any]) -> list[str]:
    """Returns what a person sees, line by line."""
    lines = [f"Datagrams are given out by the {screen.plain(answer['dispatch'])}.", ""]
    rows = [["kind", "packet", "goes to", "slot byte", "bytes"]]
    for row in answer["rows"]:
        role = screen.plain(row["role"])
        rows.append(
            [
                screen.plain(row["kind"]),
                screen.plain(row["name"]),
                role if row["served"] else f"{role} (not served)",
                screen.plain(row["slot_byte"]) if row["slot_byte"] is not None else "-",
                f"{row['min_size']}-{row['max_size']}"
                if row["min_size"] != row["max_size"]
                else str(row["min_size"]),
            ]
        )
    lines += screen.table(rows, left=3)
    shares = [["shard", "slots"]]
    for role, table in sorted(answer["slots"].items()):
        words = _ranges(table["ranges"], table["even"])
        for shard, text in zip(table["ranges"], words, strict=True):
            shares.append([f"{screen.plain(role)}.{screen.plain(shard)}", text])
    lines += ["", *screen.table(shares, left=2)]
    key = answer.get("key")
    if key is not None:
        owners = ", ".join(map(screen.plain, key["owners"].values()))
        lines += ["", f"{key['public_key']} has slot {key['slot']}: {owners}"]
    return lines


@click.command("routes")
@click.option("--key", metavar="KEY", help="A public key: show which processes have it.")
@options.asks
def command(key: str | None, state_dir: Path, as_json: bool) -> int:
    """Show which role takes which kind of datagram, and how its shards share the keys.

    A datagram of a kind with a slot byte goes to the shard that has the slot which that byte names;
    one without goes to shard 0.

    Exit codes: 0 good, 3 no key, 4 no node answers, 5 permission.
    """
    args: dict[str, Any] = {"limit": _ROUTE_LINES}
    if key is not None:
        args["key"] = key
    answer = client.ask(state_dir, "routes", args)
    if as_json:
        options.print_json(answer)
    else:
        click.echo("\n".join(page(answer)))
    return 0
