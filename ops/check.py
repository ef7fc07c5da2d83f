"""`toxmesh ops check`: ask any Tox node from outside whether it does its work."""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click
import orjson

from ops import screen

if TYPE_CHECKING:
    from core.bootstrap_node import BootstrapNode
    from core.endpoint import Endpoint
    from ops.check_outcome import Outcome

CHECKS = ("ping", "udp", "tcp", "onion", "announce")
TIMEOUT_S = 3.0
PINGS = 3  # where nobody says how many
MAX_COUNT = 1000
ALL_GOOD, SOME_FAILED, ALL_FAILED, USAGE, UNREACHED = range(5)
_COLOURS = {"good": "green", "slow": "yellow", "failed": "red", "silent": "red"}


class _Refused(Exception):
    """This cannot be asked: a sentence, and the exit code."""

    def __init__(self, text: str, code: int = USAGE) -> None:
        super().__init__(text)
        self.code = code


def _number(
    ctx: click.Context, param: click.Parameter, value: float | None
) -> float | None:
    """Refuses `nan`, which is within all bounds."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is no number")
    return value


@click.command("check")
@click.argument("what", type=click.Choice([*CHECKS, "all"]), metavar="|".join([*CHECKS, "all"]))
@click.argument("node", metavar="HOST:PORT:PUBLICKEY")
@click.option("--tcp-port", type=click.IntRange(1, 65535), help="Of the relay [PORT].")
@click.option(
    "--count", type=click.IntRange(1, MAX_COUNT), metavar="N",
    help=f"How often each check is made [ping {PINGS}, others 1].",
)  # fmt: skip
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0.05, 60), default=TIMEOUT_S,
    callback=_number, metavar="SECONDS", help=f"For each answer, of three tries [{TIMEOUT_S:g}].",
)  # fmt: skip
@click.option("-4", "family", flag_value=4, type=int, help="IPv4 only, where HOST has both.")
@click.option("-6", "family", flag_value=6, type=int, help="IPv6 only.")
@click.option(
    "-w", "--warning", "warning_ms", type=click.FloatRange(0, min_open=True), callback=_number,
    metavar="MS", help="A round trip above this is slow.",
)  # fmt: skip
@click.option(
    "-c", "--critical", "critical_ms", type=click.FloatRange(0, min_open=True),
    callback=_number, metavar="MS", help="A round trip above this is a failure.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print all results as JSON.")
@click.option(
    "--nagios", is_flag=True,
    help="Print one line with performance data, and exit, as monitoring plugins do.",
)  # fmt: skip
def command(
    what: str,
    node: str,
    tcp_port: int | None,
    count: int | None,
    timeout_s: float,
    family: int | None,
    warning_ms: float | None,
    critical_ms: float | None,
    as_json: bool,
    nagios: bool,
) -> int:
    """Ask a Tox node from outside whether it does its work: any node, whoever wrote it.

    ping is a DHT ping. udp adds a search for nodes and the bootstrap info. tcp is the handshake of
    the relay and a ping in a frame. onion is a search through paths in which the node is hop 1, 2
    and 3, with nodes that it names itself. announce announces a throw-away key and finds it.
    all is all of them. One line tells each: verdict, round trip, and why.

    Exit codes: 0 all good, 1 some failed or slow, 2 all failed, 3 usage, 4 no answer at all.
    With --nagios: 0 OK, 1 WARNING (slow), 2 CRITICAL (any failure), 3 UNKNOWN.
    """
    from ops import check_outcome

    limits = check_outcome.Limits(warning_ms, critical_ms)
    try:
        if as_json and nagios:
            raise _Refused("--json and --nagios: choose one of them")
        wanted, place = _target(node, family)
        found = []
        for outcome in _outcomes(what, wanted, place, tcp_port, count, timeout_s):
            found.append(check_outcome.judged(outcome, limits))
            if not as_json and not nagios:
                _show(found[-1])
    except _Refused as error:
        if nagios:
            click.echo(check_outcome.plugin_unknown(str(error)))
            return check_outcome.UNKNOWN
        click.echo(f"toxmesh: {error}", err=True)
        return error.code
    if nagios:
        code, line = check_outcome.plugin(found, limits)
        click.echo(line)
        return code
    code = _exit_code({outcome.verdict for outcome in found})
    if as_json:
        from core.endpoint import to_text

        answer = {
            "version": 1,  # of docs/json.md
            "node": str(wanted),
            "address": to_text(place),
            "exit": code,
            "checks": [outcome.plain() for outcome in found],
        }
        click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2))
    return code


def _exit_code(verdicts: set[str]) -> int:
    from ops.check_outcome import GOOD, SILENT, SLOW

    if verdicts == {GOOD}:
        return ALL_GOOD
    if verdicts & {GOOD, SLOW}:
        return SOME_FAILED
    return UNREACHED if verdicts == {SILENT} else ALL_FAILED


def _show(outcome: "Outcome") -> None:
    line = outcome.line()
    if screen.has_colour():
        coloured = click.style(outcome.verdict, fg=_COLOURS[outcome.verdict])
        line = line.replace(outcome.verdict, coloured, 1)
    click.echo(line)


def _target(text: str, family: int | None) -> "tuple[BootstrapNode, Endpoint]":
    """Reads the node and finds its address."""
    from core import crypto
    from core.bootstrap_node import parse
    from core.endpoint import is_ipv4
    from ops import places

    try:
        node = parse(text)
    except ValueError as error:
        raise _Refused(str(error)) from None
    if node.key in crypto.LOW_ORDER:
        raise _Refused("no node has this key: it is of low order")
    try:
        found = places.addresses(node.host, node.port)
    except places.NoAddress as error:
        raise _Refused(str(error), UNREACHED) from None
    fit = [place for place in found if family is None or is_ipv4(place) == (family == 4)]
    if not fit:
        raise _Refused(f"{node.host} has no IPv{family} address", UNREACHED)
    return node, fit[0]


def _outcomes(
    what: str,
    node: "BootstrapNode",
    place: "Endpoint",
    tcp_port: int | None,
    count: int | None,
    timeout_s: float,
) -> "Iterator[Outcome]":
    """Makes the checks in turn; without pings, no other over UDP is tried."""
    from core.crypto import PublicKey
    from ops import check_onion, check_relay, check_udp
    from ops.check_asker import Asker
    from ops.check_outcome import Outcome, repeat

    key = PublicKey(node.key)
    try:
        asker = Asker(place, timeout_s)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _Refused(f"{node.host} cannot be asked: {reason}", UNREACHED) from None
    hop = check_onion.Hop(key, place)
    makers: dict[str, Callable[[], Outcome]] = {
        "ping": lambda: check_udp.ping(asker, place, key),
        "udp": lambda: check_udp.udp(asker, place, key),
        "tcp": lambda: check_relay.tcp(place, tcp_port or node.port, key, timeout_s),
        "onion": lambda: check_onion.onion(asker, hop),
        "announce": lambda: check_onion.announce(asker, hop),
    }
    reached: Outcome | None = None
    try:
        for name in CHECKS if what == "all" else (what,):
            if reached is not None and reached.unreached and name != "tcp":
                text = "not tried, for its pings are not answered"
                yield Outcome(name, reached.verdict, text, unreached=True)
                continue
            times = count or (PINGS if name == "ping" else 1)
            outcome = repeat(makers[name], times)
            reached = outcome if name != "tcp" else reached
            yield outcome
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _Refused(f"{node.host} cannot be asked: {reason}", UNREACHED) from None
    finally:
        asker.close()
