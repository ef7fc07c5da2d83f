"""`toxmesh ops onion`: what passes through the hops of this node, and why something did not."""

from pathlib import Path

import click

from ops import client, options, screen
from ops.announces import kind_table, refusal_table


@click.command("onion")
@options.asks
def command(state_dir: Path, as_json: bool) -> int:
    """Show onion hops by kind, returns, forwarding, refusals by reason, and the age of secrets.

    Requests go 0x80, 0x81, 0x82; answers come back as 0x8c, 0x8d, 0x8e.
    """
    answer = client.ask(state_dir, "onion")
    if as_json:
        options.print_json(answer)
        return 0
    key = answer["return_key"]
    both = "the one before it still opens" if key.get("previous") else "the one before it is gone"
    lines = [
        *kind_table(answer["hops"], "hops"),
        f"of relay clients: {screen.count(answer.get('relay_requests'))} onion requests (08), "
        f"{screen.count(answer.get('relay_forwards'))} forward requests (0a)",
        *refusal_table(answer["refusals"]),
        "",
        *kind_table(answer["forward"], "forwarding"),
        *refusal_table(answer["forward_refusals"]),
        "",
        f"return key     {screen.span(key.get('age_s'))} old, the next in "
        f"{screen.span(key.get('next_s'))}; {both}",
        f"next windows   ping ids in {screen.span(answer.get('ping_id_next_s'))}, tokens in "
        f"{screen.span(answer.get('token_next_s'))}, sendbacks in "
        f"{screen.span(answer.get('sendback_next_s'))}",
        f"shards         {screen.count(answer.get('shards'))}",
    ]
    click.echo("\n".join(lines))
    return 0
