"""The address of the node's web door, and which names a browser may call it by."""

import ipaddress
from typing import NamedTuple

OFF = ("", "off")
DEFAULT_PORT = 9745


class Address(NamedTuple):
    """Where the door listens: an IP address and a port (0: any free one)."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str) -> Address | None:
    """Reads `127.0.0.1:9745` or `[::1]:9745`; None for `off` and for nothing.

    Raises ValueError with a sentence.
    """
    if text in OFF:
        return None
    host, colon, digits = text.rpartition(":")
    if not colon or not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
        raise ValueError(f'{text[:60]!r} is not ADDRESS:PORT, as in "127.0.0.1:{DEFAULT_PORT}"')
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise ValueError(f"{host[:60]!r} is no IPv4 or IPv6 address; give no name") from None
    if (address.version == 6) != (bare != host):
        raise ValueError(f'write {text[:60]!r} as "{Address(str(address), int(digits))}"')
    if int(digits) > 65535:
        raise ValueError(f"{digits} is no port; the greatest is 65535")
    return Address(str(address), int(digits))


def names_loopback(host: bytes) -> bool:
    """Tells whether a Host header names this machine by a name that no stranger can point here.

    A page of a stranger may have a name that its owner lets point to 127.0.0.1 (DNS rebinding): the
    browser then takes our answers for that page's own. So on loopback only `localhost` and loopback
    addresses are answered, with any port, for the operator may come through a tunnel.
    """
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        bare, bracket, rest = text[1:].partition("]")
        if not bracket:
            return False
    else:
        bare, _, rest = text.partition(":")
        rest = f":{rest}" if rest else ""
    if rest and not (rest[0] == ":" and rest[1:].isascii() and rest[1:].isdigit()):
        return False
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False
