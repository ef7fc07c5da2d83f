"""`toxmesh ops data`: what becomes of data for announced clients, and of data announcements."""

from pathlib import Path

import click

from ops import client, options, screen
from ops.announces import kind_table, rate, refusal_table


@click.command("data")
@options.asks
def command(state_dir: Path, as_json: bool) -> int:
    """Show data on its way to announced clients (0x85), and the data announcements kept here.

    A route is a client that announced itself: data for it is passed on at once, nothing waits here.
    """
    answer = client.ask(state_dir, "data")
    if as_json:
        options.print_json(answer)
        return 0
    lines = [
        f"data to route  {screen.count(answer.get('routes'))} routes; "
        f"{screen.count(answer.get('requests'))} requests ({rate(answer.get('requests_per_s'))}), "
        f"{screen.count(answer.get('passed_on'))} passed on "
        f"({rate(answer.get('passed_on_per_s'))})",
        *refusal_table(answer["refusals"]),
        "",
        f"announcements  {screen.count(answer.get('entries'))} of "
        f"{screen.count(answer.get('capacity'))} places",
        *kind_table(answer["kinds"]),
        *refusal_table(answer["entry_refusals"]),
        "",
    ]
    cells = [
        [
            screen.plain(row.get("name")),
            screen.count(row.get("routes")),
            screen.count(row.get("entries")),
            screen.count(row.get("capacity")),
            "-" if row.get("next_end_s") is None else screen.span(row.get("next_end_s")),
        ]
        for row in answer["shards"]
    ]
    heads = ["shard", "routes", "announcements", "places", "next ends in"]
    click.echo("\n".join([*lines, *screen.table([heads, *cells])]))
    return 0
