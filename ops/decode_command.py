"""`toxmesh ops decode`: what a datagram or a relay packet says, field by field."""

import sys
from collections.abc import Iterator

import click
import orjson

MAX_BYTES = 65_535  # of one packet: as much as UDP carries
_MAX_LINE = 4 * MAX_BYTES  # characters: two for a byte, and as many between them
GOOD, SOME_BAD, USAGE = 0, 1, 3
_BETWEEN = str.maketrans("", "", " \t\r\n:-")


def _bytes_of(text: str) -> bytes:
    """Reads hexadecimal digits, with blanks or colons between. ValueError says what is wrong."""
    digits = text.strip().removeprefix("0x").translate(_BETWEEN)
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        wrong = next((letter for letter in digits if letter not in "0123456789abcdefABCDEF"), "")
        why = f"{wrong!r} is no hexadecimal digit" if wrong else "the number of digits is odd"
        raise ValueError(why) from None
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data):,} bytes are more than {MAX_BYTES:,}")
    return data


def _stdin() -> Iterator[tuple[str, str]]:
    """Yields the lines of stdin that say something, each with its number for messages."""
    number = 0
    while True:
        raw = sys.stdin.buffer.readline(_MAX_LINE)
        if not raw:
            return
        number += 1
        line = raw.decode("ascii", "replace").strip()
        if line and not line.startswith("#"):
            yield f"line {number}: ", line


@click.command("decode")
@click.argument("hex_text", metavar="HEX")
@click.option(
    "--as", "how", default="auto", metavar="LAYOUT",
    help="udp, relay, or a layout's name as in docs/packets.md [UDP, else a relay packet].",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print each packet as one line of JSON.")
def command(hex_text: str, how: str, as_json: bool) -> int:
    """Show the fields of a UDP datagram, or of the plain text of a relay's frame.

    HEX are its bytes in hexadecimal, with blanks or colons between them if you like; - reads one
    packet a line from stdin. For each field: its first byte, its size, its name and value. Boxes
    stay closed. What is no packet is told with the byte at which it stops to be one.

    Exit codes: 0 good, 1 something was no packet, 3 usage.
    """
    from ops import decode

    if how not in (decode.AUTO, decode.UDP, decode.RELAY) and how not in decode.CLASSES:
        click.echo(f"toxmesh: --as {how!r} is no layout; docs/packets.md has all names", err=True)
        return USAGE
    worst = GOOD
    for where, text in _stdin() if hex_text == "-" else [("", hex_text)]:
        try:
            decoded = decode.decode(_bytes_of(text), how)
        except decode.NoPacket as error:
            worst = max(worst, SOME_BAD)
            if as_json:
                row = {"error": error.reason, "packet": error.layout, "at": error.at}
                click.echo(orjson.dumps(row))
            else:
                click.echo(f"toxmesh: {where}no packet: {error}", err=True)
        except ValueError as error:
            click.echo(f"toxmesh: {where}{error}", err=True)
            worst = USAGE
        else:
            shown = orjson.dumps(decoded.plain()) if as_json else "\n".join(decode.lines(decoded))
            click.echo(shown)
    return worst
