"""`toxmesh ops announces ...`: who is announced here, how full the stores are, groups and peers."""

from pathlib import Path
from typing import Any

import click

from ops import client, options, screen

FOUND, NOT_FOUND = 0, 1
_MOST_CHATS = 500  # that a shard lists at a time


def rate(value: object) -> str:
    """Returns `12.3/s`."""
    return f"{screen.number(value):,.1f}/s"


def kind_table(rows: list[dict[str, Any]], head: str = "packets") -> list[str]:
    """Returns a table of kinds of datagrams: counts since the start, and in a second."""
    heads = [head, "", "received", "per s", "sent", "per s"]
    cells = [
        [
            screen.plain(row.get("kind")),
            screen.plain(row.get("name")),
            screen.count(row.get("received")),
            rate(row.get("received_per_s")),
            screen.count(row.get("sent")),
            rate(row.get("sent_per_s")),
        ]
        for row in rows
    ]
    return screen.table([heads, *cells], left=2)


def refusal_table(rows: list[dict[str, Any]], head: str = "refused because") -> list[str]:
    """Returns a table of reasons, or one line that there are none."""
    if not rows:
        return ["nothing was refused"]
    cells = [
        [screen.plain(row.get("reason")), screen.count(row.get("count")), rate(row.get("per_s"))]
        for row in rows
    ]
    return screen.table([[head, "count", "per s"], *cells])


@click.command("find")
@click.argument("key", metavar="KEY")
@options.asks
def find(key: str, state_dir: Path, as_json: bool) -> int:
    """Show what is stored here under KEY: an announced client, data, or a group chat.

    KEY is the public key that a client announced, a data key, or a chat id. Exit codes: 0 something
    is stored, 1 nothing is, 3 KEY is no key, 4 no node answers, 5 permission.
    """
    answer = client.ask(state_dir, "announces find", {"key": key})
    found = any(answer.get(name) is not None for name in ("entry", "data", "chat"))
    code = FOUND if found else NOT_FOUND
    if as_json:
        options.print_json(answer)
        return code
    owner = f"{screen.plain(answer.get('owner'))} (slot {screen.plain(answer.get('slot'))})"
    lines = [] if found else [f"nothing is stored under this key; it would be with {owner}"]
    entry, data, chat = answer.get("entry"), answer.get("data"), answer.get("chat")
    if entry is not None:
        lines += [
            f"announced    {screen.span(entry.get('age_s'))} ago, for another "
            f"{screen.span(entry.get('expires_s'))}",
            f"kept by      {screen.plain(entry.get('shard'))}; the owner is {owner}",
            f"last hop     {screen.plain(entry.get('last_hop'))}",
            f"data key     {screen.plain(entry.get('data_key'))}",
            f"distance     shares {screen.plain(entry.get('shared_bits'))} bits with our own key",
        ]
    if data is not None:
        lines += [
            f"data         {screen.count(data.get('bytes'))} bytes, for another "
            f"{screen.span(data.get('expires_s'))}, kept by {screen.plain(data.get('shard'))}",
            f"SHA-256      {screen.plain(data.get('sha256'))}",
        ]
    if chat is not None:
        lines += [
            f"group chat   {len(chat['peers'])} peers announced, kept by "
            f"{screen.plain(chat.get('shard'))}",
            *_peers(chat["peers"]),
        ]
    others = [
        [screen.plain(row.get("shard")), screen.plain(row.get("believes"))]
        for row in answer.get("others", ())
    ]
    if others:
        lines += ["", *screen.table([["shard", "believes that the owner has it"], *others], left=2)]
    click.echo("\n".join(lines))
    return code


@click.command("stats")
@options.limit_of(10, 100, "Prefixes shown.")
@options.asks
def stats(limit: int, state_dir: Path, as_json: bool) -> int:
    """Show how full the announce store is: ages, prefixes of last hops, refusals, searches.

    Ages and prefixes are reckoned from up to 1,000 entries of each shard.
    """
    answer = client.ask(state_dir, "announces stats", {"limit": limit})
    if as_json:
        options.print_json(answer)
        return 0
    entries, capacity = screen.number(answer.get("entries")), screen.number(answer.get("capacity"))
    searches = answer["searches"]
    lines = [
        f"{entries:,.0f} clients are announced, {entries / max(1.0, capacity):.1%} of "
        f"{capacity:,.0f} places; {screen.count(answer.get('chats'))} group chats of "
        f"{screen.count(answer.get('chats_capacity'))}",
    ]
    if entries:
        lines += [
            f"the oldest {screen.span(answer.get('oldest_s'))} ago, the newest "
            f"{screen.span(answer.get('newest_s'))} ago; the nearest shares "
            f"{screen.plain(answer.get('nearest_bits'))} bits with our key",
            f"last hops: {screen.count(answer.get('ipv4'))} IPv4, "
            f"{screen.count(answer.get('ipv6'))} IPv6, "
            f"{screen.count(answer.get('local'))} of a local network",
            "",
            *screen.table(
                [
                    ["announced", "entries"],
                    *(
                        [
                            f"{screen.count(row.get('from_s'))}-"
                            f"{screen.count(row.get('to_s'))} s ago",
                            screen.count(row.get("entries")),
                        ]
                        for row in answer["ages"]
                    ),
                ]
            ),
            "",
            *screen.table(
                [
                    ["prefix of the last hop", "entries", "share"],
                    *(
                        [
                            screen.plain(row.get("prefix")),
                            screen.count(row.get("entries")),
                            f"{screen.number(row.get('share')):.1%}",
                        ]
                        for row in answer["prefixes"]
                    ),
                ]
            ),
        ]
    names = ("answered_at_once", "told_to_owner", "without_filter", "in_vain")
    at_once, told, blind, in_vain = (screen.count(searches.get(name)) for name in names)
    lines += [
        "",
        f"searches between shards: {at_once} answered where they came, {told} told to the owner "
        f"({blind} for want of its filter), {in_vain} of them in vain; "
        f"{screen.count(searches.get('filters_known'))} of "
        f"{screen.count(searches.get('filters_wanted'))} filters are known",
        "",
        *kind_table(answer["kinds"]),
        "",
        *refusal_table(answer["refusals"]),
        "",
    ]
    shards = [
        [
            screen.plain(row.get("name")),
            screen.count(row.get("entries")),
            screen.count(row.get("capacity")),
            screen.count(row.get("chats")),
            screen.span(row.get("oldest_s")),
        ]
        for row in answer["shards"]
    ]
    lines += screen.table([["shard", "clients", "places", "chats", "oldest"], *shards])
    click.echo("\n".join(lines))
    return 0


def _peers(rows: list[dict[str, Any]]) -> list[str]:
    cells = [
        [
            screen.plain(row.get("key")),
            screen.plain(row.get("address")),
            " ".join(screen.plain(relay.get("address")) for relay in row.get("relays", ())) or "-",
        ]
        for row in rows
    ]
    return screen.table([["peer", "address", "relay"], *cells], left=3)


@click.command("groups")
@click.argument("chat_id", metavar="[CHAT_ID]", required=False)
@options.limit_of(100, _MOST_CHATS)
@options.asks
def groups(chat_id: str | None, limit: int, state_dir: Path, as_json: bool) -> int:
    """List the group chats with peers announced here (0x87), or the peers of one chat.

    The one announced last comes first. Exit codes: 0 good, 1 nobody announced CHAT_ID here,
    3 CHAT_ID is none, 4 no node answers, 5 permission.
    """
    args: dict[str, Any] = {"limit": limit}
    args |= {"key": chat_id} if chat_id else {}
    answer = client.ask(state_dir, "announces groups", args)
    code = NOT_FOUND if chat_id and not answer["peers"] else FOUND
    if as_json:
        options.print_json(answer)
        return code
    if chat_id:
        lines = _peers(answer["peers"]) if answer["peers"] else ["nobody announced this chat here"]
        click.echo("\n".join(lines))
        return code
    cells = [
        [
            screen.plain(row.get("chat_id")),
            screen.plain(row.get("shard")),
            screen.count(row.get("peers")),
            screen.span(row.get("age_s")),
            screen.plain(row.get("opened_from")),
        ]
        for row in answer["chats"]
    ]
    lines = screen.table([["chat", "shard", "peers", "last announce", "opened from"], *cells], 2)
    total, shown = screen.number(answer.get("total")), screen.number(answer.get("shown"))
    lines.append(f"{total:,.0f} chats" + ("" if shown == total else f", {shown:,.0f} shown"))
    click.echo("\n".join(lines))
    return code
