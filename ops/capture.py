"""`toxmesh ops capture`: packets of the running node, decoded, as they come and leave."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import orjson

from ops import client, options, repeat, screen
from ops.durations import DURATION
from ops.kinds import DATA, FRAMES, NAMES

if TYPE_CHECKING:
    from core.endpoint import Endpoint

GOOD, NOTHING, FAILED, PERMISSION = 0, 1, 2, 5
_KEY_DIGITS = 16  # of a key on a line: enough to tell it from others

_WORDS = {
    word.strip(): (number, None) for number, words in NAMES.items() for word in words.split(",")
} | {word: (None, number) for number, word in FRAMES.items()}

FirstBytes = tuple[int | None, int | None]
"""Of a kind as a datagram and as a frame; None: it is none."""


class Kind(click.ParamType[FirstBytes]):
    """A kind of packet: `0x02`, `2`, `nodes-request` or `relay-ping`; the command gets its first
    byte. A number means datagrams and frames."""

    name = "KIND"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> FirstBytes:
        """Returns the first bytes."""
        if isinstance(value, tuple):
            return value
        text = str(value).strip().lower().replace("-", " ").replace("_", " ")
        if text in _WORDS:
            return _WORDS[text]
        try:
            kind = int(text, 16 if text.startswith("0x") else 10)
        except ValueError:
            kind = -1
        if not 0 <= kind <= 255:
            self.fail(
                f"{value!r} is no kind of packet; write 0x02 or nodes-request (toxmesh ops routes "
                "lists all) or route-request",
                param,
                ctx,
            )
        return kind, kind if kind in FRAMES else None


class Place(click.ParamType[tuple[str, int]]):
    """An address, a prefix, or an address with a port; the command gets network and port."""

    name = "PLACE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Returns network (as text) and port (0: any)."""
        from core.capturing import parse_place

        if isinstance(value, tuple):
            return value
        try:
            return parse_place(str(value))
        except ValueError as error:
            self.fail(
                f"{error}; write 192.0.2.1, 192.0.2.0/24, 192.0.2.1:33445 or [2001:db8::1]:33445",
                param,
                ctx,
            )


class Capturing:
    """One capture as it goes on: what came so far, and what passed unseen."""

    def __init__(self, state_dir: Path, args: dict[str, Any], count: int, seconds: float) -> None:
        self.seen = 0
        self.passed_over = 0
        self.answer: dict[str, Any] = {}
        self._ask = (state_dir, args, count, seconds)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields packets until there are enough, the time is over, or it is interrupted."""
        state_dir, args, count, seconds = self._ask
        events = client.follow(
            state_dir, "capture", args, begin=self.answer.update, seconds=seconds
        )
        with closing(events):
            try:
                for event in events:
                    if event.name == "lost":
                        self.passed_over += event.data["count"]
                        continue
                    self.passed_over += event.data["passed_over"]
                    for row in event.data["rows"]:
                        self.seen += 1
                        yield {"from": event.data["from"], **row}
                        if self.seen >= count:
                            return
            except (client.TooLong, KeyboardInterrupt):
                return
        raise client.AskError("the node closed the door; is it stopping?", client.UNREACHABLE)


def _line(row: dict[str, Any], decoded: dict[str, Any] | None) -> str:
    """Returns one line about a packet: when, where, what, and the keys in it."""
    data = bytes.fromhex(row["data"])
    by_tcp = row["transport"] == "tcp"
    seconds, rest = divmod(screen.number(row["at"]), 1)
    clock = time.strftime("%H:%M:%S", time.localtime(seconds))
    arrow = "from" if row["direction"] == "in" else "to"
    first = data[0] if data else -1
    names, at = (FRAMES, min(first, DATA)) if by_tcp else (NAMES, first)
    name = names.get(at, "no packet of Tox").split(",")[0]
    keys = [f"client {screen.plain(row['client'])[:_KEY_DIGITS]}"] if by_tcp else []
    for field in () if decoded is None else decoded["fields"]:
        value = field["value"]
        if field["size"] == 32 and not field["sealed"] and isinstance(value, str):
            keys.append(f"{field['name']} {value[:_KEY_DIGITS]}")
    kind = f"0x{data[0]:02x}" if data else "-"
    return (
        f"{clock}.{int(rest * 1e6):06d}  {screen.plain(row['from']):<8} {arrow:<4} "
        f"{screen.plain(row['address']):<21}  {kind} {name}, {screen.count(row['size'])} bytes  "
        f"{', '.join(keys)}"
    ).rstrip()


def _shown(row: dict[str, Any], as_json: bool, fields: bool) -> bytes | str:
    """Returns a packet as the operator wants it."""
    from ops import decode

    data = bytes.fromhex(row["data"])
    if len(data) < row["size"]:  # a frame, of which what it carries is not told
        return orjson.dumps({**row, "packet": None}) if as_json else _line(row, None)
    try:
        decoded = decode.decode(data, decode.RELAY if row["transport"] == "tcp" else decode.UDP)
    except decode.NoPacket as error:
        if as_json:
            return orjson.dumps({**row, "packet": None, "error": str(error)})
        return f"{_line(row, None)}\n  no packet: {error}"
    plain = decoded.plain()
    if as_json:
        return orjson.dumps({**row, "packet": plain})
    line = _line(row, plain)
    return "\n".join([line, *decode.lines(decoded, "  ")]) if fields else line


def _open(path: str) -> BinaryIO:
    """Opens the file of a capture: for its owner alone, since it shows who talks to the node."""
    if path == "-":
        return sys.stdout.buffer
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    return open(os.open(path, flags, 0o600), "wb", buffering=0)


def _own(addresses: list[str]) -> dict[bool, "Endpoint"]:
    """Returns the node's own address of each family, by whether it is IPv4."""
    from core import endpoint
    from core.endpoint import Endpoint

    found: dict[bool, Endpoint] = {}
    for text in addresses:
        host, _, port = text.removeprefix("udp ").rpartition(":")
        own = endpoint.from_text(host.strip("[]"), int(port))
        found.setdefault(endpoint.is_ipv4(own), own)
    return found


def _write(capturing: Capturing, path: str) -> None:
    """Writes datagrams as a pcap file while they come."""
    from core import endpoint
    from core.endpoint import Endpoint
    from ops import pcap

    def packets() -> Iterator[tuple[float, Endpoint, Endpoint, bytes]]:
        for row in capturing.rows():
            host, _, port = row["address"].rpartition(":")
            other = endpoint.from_text(host.strip("[]"), int(port))
            own = _own(capturing.answer["addresses"])[endpoint.is_ipv4(other)]
            ends = (other, own) if row["direction"] == "in" else (own, other)
            yield row["at"], *ends, bytes.fromhex(row["data"])
            file.flush()

    file = _open(path)
    try:
        pcap.write(file, packets())
    finally:
        if path != "-":
            file.close()


@click.command("capture")
@click.option("--kind", "kinds", multiple=True, type=Kind(), help="Only this kind; repeatable.")
@click.option(
    "--transport", type=click.Choice(("udp", "tcp", "all")),
    help="Datagrams, frames of relay clients, or both [default: all; udp with --pcap].",
)  # fmt: skip
@click.option(
    "--key", default="", metavar="HEX",
    help="Only with this public key in the clear, or of this relay client.",
)  # fmt: skip
@click.option("--addr", "place", type=Place(), help="Only from or to this address or prefix.")
@click.option(
    "--direction", type=click.Choice(("in", "out", "both")), default="both", show_default=True
)
@click.option(
    "-n", "--count", type=click.IntRange(1, 10_000), default=100, show_default=True,
    metavar="COUNT", help="End after so many packets.",
)  # fmt: skip
@click.option(
    "--rate", type=click.IntRange(1, 1_000), default=100, show_default=True, metavar="N",
    help="Packets a second, at most, from each process.",
)  # fmt: skip
@click.option("--for", "seconds", type=DURATION, help="End after this time, such as 30s.")
@click.option("--fields", is_flag=True, help="Show all fields of each packet.")
@click.option(
    "--pcap", "file", metavar="FILE", help="Write datagrams to a file for Wireshark; - is stdout."
)
@options.state_dir
@click.option("--json", "as_json", is_flag=True, help="Print each packet as a line of JSON.")
@options.says_why
@repeat.until_stopped
def command(
    kinds: tuple[FirstBytes, ...],
    transport: str | None,
    key: str,
    place: tuple[str, int] | None,
    direction: str,
    count: int,
    rate: int,
    seconds: float | None,
    fields: bool,
    file: str | None,
    state_dir: Path,
    as_json: bool,
) -> int:
    """Show packets of the running node as they come and leave, decoded; boxes stay closed.

    KIND is a first byte or a name, as `toxmesh ops routes` lists them for datagrams; frames of
    relay clients are: route-request, route-response, connect-notice, disconnect-notice, relay-ping,
    relay-pong, oob-send, oob-receive, relay-onion-request, relay-onion-response,
    relay-forward-request, relay-forwarding, relay-data. Of a frame it shows what it is, whose and
    how long, and not what it carries.

    The node looks at packets only while somebody captures, and
    for a hundredth of its time if it is busy: what passes unseen is counted and said at the end.
    Ctrl-C ends it. In Wireshark: toxmesh ops capture --pcap - | wireshark -k -i -

    Exit codes: 0 good, 1 no such packet came, 2 FILE cannot be written, 3 usage, 4 no node answers,
    5 permission.
    """
    network, port = place or ("", 0)
    if file is not None and transport not in (None, "udp"):
        raise click.UsageError(
            "a file for Wireshark has datagrams alone: what is on the wire of a TCP connection is "
            "sealed, and frames are no packets; leave --transport or --pcap out"
        )
    args = {
        "kinds": [udp for udp, _ in kinds if udp is not None],
        "frames": [tcp for _, tcp in kinds if tcp is not None],
        "transport": transport or ("all" if file is None else "udp"),
        "key": key, "network": network, "port": port,
        "direction": direction, "count": count, "rate": rate,
    }  # fmt: skip
    capturing = Capturing(state_dir, args, count, float("inf") if seconds is None else seconds)
    if file is None:
        for row in capturing.rows():
            click.echo(_shown(row, as_json, fields))
    else:
        try:
            _write(capturing, file)
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            click.echo(f"toxmesh: {file} cannot be written: {reason}", err=True)
            return PERMISSION if isinstance(error, PermissionError) else FAILED
    said = f"{capturing.seen:,} packets"
    if capturing.passed_over:
        said += f"; {capturing.passed_over:,} packets passed unseen: narrow it, or raise --rate"
    click.echo(said, err=True)
    return GOOD if capturing.seen else NOTHING
