"""`toxmesh ops drain`: takes a running node out of use without dropping anyone."""

import sys
import time
from pathlib import Path
from typing import Any

import click

from ops import client, options, screen
from ops.durations import DURATION

_LOOK_S = 1.0  # between two looks at who is left: heartbeats come as often


@click.command("drain")
@click.option(
    "--for",
    "seconds",
    type=DURATION,
    metavar="T",
    help="How long at most: 90s, 15m, 2h; then it takes new ones again, or stops.",
)
@click.option("--then-stop", is_flag=True, help="Stop when all have left, or --for is over.")
@click.option("--wait", is_flag=True, help="Return when no relay client is left.")
@click.option("--cancel", is_flag=True, help="Take new ones again.")
@options.asks
def command(
    seconds: float | None,
    then_stop: bool,
    wait: bool,
    cancel: bool,
    state_dir: Path,
    as_json: bool,
) -> int:
    """Let a node take nobody new, as before maintenance; who is connected goes on.

    Its TCP ports refuse connections, it answers no DHT pings (so that within two minutes no other
    node names it to clients), and it stores no new announces; /readyz says 503. Relay clients stay
    until they leave by themselves. With --then-stop the node stops when none of them is left and
    other nodes have forgotten it, or when --for is over, whoever is left then.

    Exit codes: 0 done, 1 with --wait and --for: clients are left when the time is over, 2 refused,
    3 usage, 4 no node answers, 5 permission.
    """
    if cancel:
        if seconds or then_stop or wait:
            raise click.UsageError("--cancel goes with no other option")
        answer = client.ask(state_dir, "drain cancel")
        if as_json:
            options.print_json(answer)
        else:
            click.echo("the node takes new clients again")
        return 0
    answer = client.ask(state_dir, "drain", {"for_s": seconds, "then_stop": then_stop})
    left = 0
    if wait:
        answer, left = _wait(state_dir, answer, quiet=as_json)
    if as_json:
        options.print_json(answer)
    elif not wait:
        click.echo(_line(answer))
    return client.NOT_FOUND if left else 0


def _line(answer: dict[str, Any]) -> str:
    """Says how far it is."""
    text = f"draining for {screen.span(answer['for_s'])}: {screen.count(answer['clients'])} relay"
    text += " clients are left"
    if answer["left_s"] is not None:
        end = "it stops" if answer["then_stop"] else "it takes new ones again"
        return f"{text}; {end} in {screen.span(answer['left_s'])} at the latest"
    return f"{text}; it stops when all have left" if answer["then_stop"] else text


def _wait(state_dir: Path, answer: dict[str, Any], quiet: bool) -> tuple[dict[str, Any], int]:
    """Looks until no client is left; returns the last answer, and how many are left at the end."""
    told = -1
    while True:
        if answer["clients"] != told and not quiet:
            told = answer["clients"]
            click.echo(_line(answer))
            sys.stdout.flush()
        # The first figures may be from before the ports were shut.
        if not answer["clients"] and answer["for_s"] > 2 * _LOOK_S and not answer["then_stop"]:
            return answer, 0
        time.sleep(_LOOK_S)
        try:
            now = client.ask(state_dir, "status")["node"]["drain"]
        except client.AskError as error:
            if answer["then_stop"] and error.code == client.UNREACHABLE:
                if not quiet:
                    click.echo("the node has stopped")
                return answer, 0
            raise
        if now is None:
            return answer, int(answer["clients"])
        answer = now
