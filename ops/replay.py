"""`toxmesh ops replay`: send the datagrams of a capture to a node, and count what it answers."""

import math
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import click
import orjson

from ops import screen
from ops.kinds import NAMES

RATE = 1000.0  # datagrams a second, where nobody says another
MAX_RATE = 100_000.0
FAR_RATE = 1000.0  # at most, at a machine that may be somebody else's
WAIT_S = 1.0  # for answers, behind the last datagram
BUFFER = 4 << 20  # bytes asked of the kernel for answers
MAX_SLEEP_S = 0.05  # between two looks at the answers
GOOD, SILENT, FAILED, USAGE, UNREACHED, PERMISSION = range(6)


@dataclass(slots=True)
class Replayed:
    """What was sent, and what came."""

    sent: int = 0
    bytes: int = 0
    refused: int = 0
    """How often the kernel said that nobody listens there."""
    seconds: float = 0.0
    answers: Counter[int] = field(default_factory=Counter)
    """By first byte; -1 for an empty one."""


class Wire:
    """A socket connected to the node: what comes from elsewhere is not read."""

    refused = 0
    """How often the kernel said that nobody listens there."""

    def __init__(self, family: socket.AddressFamily, address: tuple[str, int]) -> None:
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            self._socket.connect(address)
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise

    def send(self, payload: bytes) -> bool:
        """Sends one; False if the kernel did not take it now."""
        try:
            self._socket.send(payload)
        except BlockingIOError:
            return False
        except ConnectionRefusedError:  # of the one before: this one did not leave
            self.refused += 1
            return False
        return True

    def receive(self) -> bytes | None:
        """Returns an answer, or None if there is none."""
        try:
            return self._socket.recv(65_536)
        except BlockingIOError:
            return None
        except ConnectionRefusedError:
            self.refused += 1
            return None

    def close(self) -> None:
        """Gives the socket back."""
        self._socket.close()


def replay(
    payloads: Iterable[bytes],
    wire: Wire,
    rate: float,
    *,
    wait_s: float = WAIT_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    progress: Callable[[Replayed], None] = lambda state: None,
) -> Replayed:
    """Sends payloads, `rate` a second, evenly; takes answers meanwhile and `wait_s` behind."""
    done = Replayed()
    begin = clock()
    for payload in payloads:
        while True:
            _take(wire, done)
            now = clock()
            early = begin + done.sent / rate - now
            if early > 0:
                sleep(min(early, MAX_SLEEP_S))
                continue
            if wire.send(payload):
                break
            sleep(0.001)
        done.sent += 1
        done.bytes += len(payload)
        done.seconds = now - begin
        progress(done)
    end = clock() + wait_s
    while clock() < end:
        _take(wire, done)
        sleep(MAX_SLEEP_S)
    _take(wire, done)
    done.refused = wire.refused
    return done


def _take(wire: Wire, done: Replayed) -> None:
    while (answer := wire.receive()) is not None:
        done.answers[answer[0] if answer else -1] += 1


class _Progress:
    """A line a second on a screen."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._next = 1.0

    def __call__(self, state: Replayed) -> None:
        if self._shown and state.seconds >= self._next:
            self._next = state.seconds + 1.0
            click.echo(
                f"sent {state.sent:,}, answers {state.answers.total():,}", err=True
            )


def _page(done: Replayed, passed_over: int) -> list[str]:
    per_second = done.sent / done.seconds if done.seconds else 0.0
    lines = [
        f"sent     {done.sent:,} datagrams, {screen.size(done.bytes)}, in {done.seconds:.2f} s"
        + (f" ({per_second:,.0f}/s)" if done.sent > 1 else ""),
        f"answers  {done.answers.total():,}",
    ]
    rows = [
        ["  " + (f"0x{kind:02x}" if kind >= 0 else "empty"), NAMES.get(kind, ""), f"{count:,}"]
        for kind, count in done.answers.most_common()
    ]
    lines += screen.table(rows, left=2) if rows else []
    if done.refused:
        lines.append(f"refused  {done.refused:,}: nobody listens there")
    if passed_over:
        lines.append(f"in FILE besides  {passed_over:,} packets that are no whole datagram of UDP")
    return lines


def _plain(done: Replayed, passed_over: int) -> dict[str, Any]:
    kinds = {f"0x{kind:02x}" if kind >= 0 else "empty": n for kind, n in done.answers.items()}
    return {
        "sent": done.sent, "bytes": done.bytes, "seconds": round(done.seconds, 3),
        "answers": done.answers.total(), "kinds": kinds, "refused": done.refused,
        "passed_over": passed_over,
    }  # fmt: skip


class _Refused(Exception):
    """This is not done; the text says why, and the code is the command's."""

    def __init__(self, text: str, code: int = USAGE) -> None:
        super().__init__(text)
        self.code = code


def _number(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Refuses `nan`, which is within all bounds."""
    if math.isnan(value):
        raise click.BadParameter("nan is no number")
    return value


@click.command("replay")
@click.argument("file", type=click.Path(path_type=Path, readable=False))
@click.option("--to", "to", required=True, metavar="HOST:PORT", help="The node that gets them.")
@click.option(
    "--rate", type=click.FloatRange(0.1, MAX_RATE), default=RATE, callback=_number,
    help="Datagrams a second [1000].",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(1, 65535), default=None,
    help="Only what was sent to this port when it was captured [all].",
)  # fmt: skip
@click.option("--count", type=click.IntRange(1), default=None, help="At most so many [all].")
@click.option(
    "--anywhere", is_flag=True,
    help=f"Also to a node that is not on this machine, {FAR_RATE:g} a second at most.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
def command(
    file: Path,
    to: str,
    rate: float,
    port: int | None,
    count: int | None,
    anywhere: bool,
    as_json: bool,
) -> int:
    """Send the UDP datagrams of a pcap FILE to a node, in their order, and count its answers.

    FILE is one of `toxmesh ops capture`, or of tcpdump. Their contents go out as they are, from
    one socket of this machine: answers that were meant for others come here. Boxes that the node
    opened then it opens again, unless they were for a time that has passed.

    Exit codes: 0 there were answers, 1 there were none, 2 FILE is damaged, 3 usage, 4 nobody
    listens there, 5 permission.
    """
    try:
        done, passed_over = _carry_out(file, to, rate, port, count, anywhere)
    except _Refused as error:
        click.echo(f"toxmesh: {error}", err=True)
        return error.code
    if as_json:
        click.echo(orjson.dumps(_plain(done, passed_over)))
    else:
        click.echo("\n".join(_page(done, passed_over)))
    if done.answers:
        return GOOD
    return UNREACHED if done.refused else SILENT


def _carry_out(
    file: Path, to: str, rate: float, port: int | None, count: int | None, anywhere: bool
) -> tuple[Replayed, int]:
    from core import endpoint
    from core.bootstrap_node import parse_place
    from ops import pcap, places

    try:
        place = places.addresses(*parse_place(to))[0]
    except ValueError as error:
        raise _Refused(str(error)) from None
    except places.NoAddress as error:
        raise _Refused(str(error), UNREACHED) from None
    if not places.is_loopback(place):
        if not anywhere:
            raise _Refused(
                f"{to} is not on this machine's loopback: only with --anywhere, and only to a "
                "node of your own"
            )
        if rate > FAR_RATE:
            raise _Refused(f"--anywhere allows --rate {FAR_RATE:g} at most")
    try:
        stream = os.fdopen(os.open(file, os.O_RDONLY | os.O_CLOEXEC), "rb")
    except OSError as error:
        code = PERMISSION if isinstance(error, PermissionError) else USAGE
        raise _Refused(f"{file} cannot be read: {_reason(error)}", code) from None
    with stream:
        try:
            reader = pcap.Reader(stream)
            wire = Wire(places.family_of(place), places.address_of(place))
        except pcap.PcapError as error:
            raise _Refused(f"{file}: {error}") from None
        except OSError as error:
            raise _Refused(f"{to} cannot be reached: {_reason(error)}", UNREACHED) from None
        damage: list[str] = []

        def wanted() -> Iterator[bytes]:
            try:
                for row in reader:
                    if port is None or endpoint.port_of(row.destination) == port:
                        yield row.payload
            except pcap.PcapError as error:  # what was whole before it is sent all the same
                damage.append(str(error))

        try:
            done = replay(islice(wanted(), count), wire, rate, progress=_Progress())
            if damage:
                raise _Refused(
                    f"{file}: {damage[0]}; the {done.sent:,} datagrams before that were sent, and "
                    f"{done.answers.total():,} answers came",
                    FAILED,
                )
            return done, reader.passed_over
        except OSError as error:
            raise _Refused(f"{to} cannot be reached: {_reason(error)}", UNREACHED) from None
        finally:
            wire.close()


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
