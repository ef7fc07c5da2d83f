"""`toxmesh ops dht ...`: which nodes the table has, how full it is, and how they spread."""

from pathlib import Path
from typing import Any

import click

from ops import client, options, screen

SUSPICIOUS = 1


def _key(command: Any) -> Any:
    return click.argument("key", metavar="KEY")(command)


def milliseconds(value: object) -> str:
    """Returns `12.3 ms`, or `-` for what was not measured."""
    return "-" if value is None else f"{screen.number(value):.1f} ms"


def shown(answer: dict[str, Any], what: str) -> str:
    """Returns how many rows there are and how many of them were shown, as a last line."""
    total, rows = screen.number(answer.get("total")), screen.number(answer.get("shown"))
    text = f"{total:,.0f} {what}"
    return text if rows == total else f"{text}, {rows:,.0f} of them shown (--limit)"


def node_cells(row: dict[str, Any]) -> list[str]:
    """Returns what is shown of a node in every list of nodes."""
    lists = row.get("lists")
    return [
        screen.plain(row.get("address")),
        screen.plain(row.get("state")),
        " ".join(map(screen.plain, lists)) if isinstance(lists, list) else "-",
        screen.plain(row.get("shared_bits")),
        screen.span(row.get("heard_s")),
        milliseconds(row.get("rtt_ms")),
    ]


@click.command("show")
@click.option(
    "--sort",
    type=click.Choice(["near", "heard", "rtt", "address", "state"]),
    default="near",
    show_default=True,
)
@click.option("--state", type=click.Choice(["good", "bad", "given_up"]), help="Only such nodes.")
@click.option(
    "--list", "list_", type=click.Choice(["close", "random", "search"]), help="Only this list."
)
@options.limit
@options.asks
def show(
    sort: str, state: str | None, list_: str | None, limit: int, state_dir: Path, as_json: bool
) -> int:
    """Show the known nodes: addresses, lists, state, distance, when they were heard of.

    `bits` are the leading bits that a node's key shares with ours: the more, the nearer. Lists:
    close (the k-buckets around our key), random (searches for random keys), search (for somebody).
    """
    args: dict[str, Any] = {"sort": sort, "limit": limit}
    args |= {"state": state} if state else {}
    args |= {"list": list_} if list_ else {}
    answer = client.ask(state_dir, "dht show", args)
    if as_json:
        options.print_json(answer)
        return 0
    rows = [[*node_cells(row), screen.plain(row.get("key"))] for row in answer["rows"]]
    heads = ["address", "state", "lists", "bits", "heard", "RTT", "key"]
    click.echo("\n".join([*screen.table([heads, *rows], left=3), shown(answer, "addresses")]))
    return 0


@click.command("near")
@_key
@options.limit_of(16)
@options.asks
def near(key: str, limit: int, state_dir: Path, as_json: bool) -> int:
    """Show the known nodes nearest to KEY, and which of them others are told.

    `bits` are the leading bits shared with KEY, `distance` is the length of the distance in bits.
    Others who ask for KEY get the four marked `all`; on a local network those marked `local` too.
    """
    answer = client.ask(state_dir, "dht near", {"key": key, "limit": limit})
    if as_json:
        options.print_json(answer)
        return 0
    rows = [
        [
            *node_cells(row),
            screen.plain(row.get("distance_bits")),
            "all" if row.get("named_outside") else "local" if row.get("named_inside") else "-",
            screen.plain(row.get("key")),
        ]
        for row in answer["rows"]
    ]
    heads = ["address", "state", "lists", "bits", "heard", "RTT", "distance", "told", "key"]
    lines = [f"our own key shares {screen.plain(answer.get('own_shared_bits'))} bits with it", ""]
    lines += screen.table([heads, *rows], left=3)
    click.echo("\n".join([*lines, shown(answer, "addresses")]))
    return 0


@click.command("buckets")
@options.limit
@options.asks
def buckets(limit: int, state_dir: Path, as_json: bool) -> int:
    """Show how full the k-buckets of the close list are, and the lists of searches.

    A bucket has the nodes that share so many leading bits with our key, and room for eight.
    """
    answer = client.ask(state_dir, "dht buckets", {"limit": limit})
    if as_json:
        options.print_json(answer)
        return 0
    rows = [
        [
            screen.plain(row.get("shared_bits")) + ("+" if row.get("deeper") else ""),
            "#" * int(screen.number(row.get("good")))
            + "." * int(screen.number(row.get("nodes")) - screen.number(row.get("good"))),
            *(screen.count(row.get(name)) for name in ("nodes", "good", "ipv4", "ipv6")),
        ]
        for row in answer["rows"]
    ]
    targets = [
        [
            screen.plain(row.get("kind")),
            *(screen.plain(row.get(name)) for name in ("nodes", "good", "nearest_bits", "key")),
        ]
        for row in answer["targets"]
    ]
    lines = [
        f"close list: {screen.count(answer.get('close'))} nodes in "
        f"{screen.count(answer.get('total'))} buckets; "
        f"{screen.count(answer.get('given_to_others'))} good nodes are given to others",
        "",
        *screen.table([["bits", "fill", "nodes", "good", "IPv4", "IPv6"], *rows], left=2),
        "",
        *screen.table([["search", "nodes", "good", "nearest bits", "key"], *targets]),
    ]
    click.echo("\n".join(lines))
    return 0


@click.command("diversity")
@options.limit_of(5, text="Prefixes of each length.")
@options.asks
def diversity(limit: int, state_dir: Path, as_json: bool) -> int:
    """Show how the nodes spread over address prefixes and keys: signs of a Sybil attack.

    Exit codes: 0 no sign, 1 a sign that somebody may be surrounding this node (no proof: a small
    network or a large hoster may give one), 4 no node answers, 5 permission.
    """
    answer = client.ask(state_dir, "dht diversity", {"limit": limit})
    code = SUSPICIOUS if answer["signs"] else 0
    if as_json:
        options.print_json(answer)
        return code
    lines = [f"sign: {screen.plain(sign.get('text'))}" for sign in answer["signs"]]
    if not lines:
        lines = ["no sign that somebody surrounds this node"]
    names = ("nodes", "ipv4", "ipv6", "local")
    nodes, four, six, local = (screen.count(answer.get(name)) for name in names)
    lines += [f"{nodes} nodes; {four} IPv4 and {six} IPv6 addresses, {local} of them local", ""]
    rows = [["prefix", "nodes", "share", "different"]]
    for kind in answer["prefixes"]:
        head = f"{screen.plain(kind.get('family'))} /{screen.plain(kind.get('bits'))}"
        if kind["top"]:
            rows.append([head, screen.count(kind.get("nodes")), "", screen.count(kind["prefixes"])])
        rows += [
            [
                f"  {screen.plain(top.get('prefix'))}",
                screen.count(top.get("nodes")),
                f"{screen.number(top.get('share')):.1%}",
                "",
            ]
            for top in kind["top"]
        ]
    lines += screen.table(rows)
    near_rows = [
        [
            f"{screen.plain(row.get('shared_bits'))} bits or more",
            screen.count(row.get("nodes")),
            f"{screen.number(row.get('chance')):.2g}",
        ]
        for row in answer["near"]
    ]
    if near_rows:
        lines += ["", *screen.table([["of the nearest, share", "nodes", "chance"], *near_rows])]
    click.echo("\n".join(lines))
    return code
