"""How a connection to a relay is led through a proxy: HTTP CONNECT and SOCKS5, without a socket.

A tunnel is told what the proxy sends and returns what the proxy is to be sent; when it is `open`,
what comes next belongs to the relay. Names of hosts go to the proxy as they are: it resolves them.
"""

import base64
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Protocol, TypeAlias
from urllib.parse import unquote, urlsplit

from core.endpoint import Endpoint, from_text, ip_of, is_ipv4, port_of, to_text

MAX_HEAD_SIZE = 8192  # bytes of an HTTP answer's head; servers themselves stop at this much
MAX_NAME_SIZE = 255  # RFC 1928 and 1929: one byte counts names, users and passwords

Target: TypeAlias = Endpoint | tuple[str, int]
"""Where to connect to: an address, or a host's name and a port."""


class TunnelRefused(Exception):
    """The proxy does not let us through; `reason` is counted, the text is for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy through which all relays are reached."""

    kind: Literal["http", "socks5"]
    address: Target
    user: str | None = None
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.kind not in ("http", "socks5"):
            raise ValueError(f"{self.kind!r} is no kind of proxy: http or socks5")
        if self.user is not None:
            sizes = len(self.user.encode()), len(self.password.encode())
            if self.kind == "socks5" and not (1 <= sizes[0] <= 255 and 1 <= sizes[1] <= 255):
                raise ValueError("SOCKS5 takes users and passwords of 1-255 bytes")
            if self.kind == "http" and ":" in self.user:
                raise ValueError("the user of an HTTP proxy has no colon in his name")

    @classmethod
    def from_url(cls, url: str) -> "Proxy":
        """Reads `http://user:password@host:port` or `socks5://host:port`; ValueError if not so."""
        parts = urlsplit(url)
        kind = {"http": "http", "socks5": "socks5", "socks5h": "socks5"}.get(parts.scheme)
        if kind is None or not parts.hostname or not parts.port:
            raise ValueError("a proxy is given as http://HOST:PORT or socks5://HOST:PORT")
        user = None if parts.username is None else unquote(parts.username)
        return cls(
            "http" if kind == "http" else "socks5",
            _target(parts.hostname, parts.port),
            user,
            unquote(parts.password or ""),
        )

    def tunnel(self, target: Target) -> "Tunnel":
        """Makes the steps that lead to `target`."""
        login = None if self.user is None else (self.user, self.password)
        return (HttpTunnel if self.kind == "http" else Socks5Tunnel)(target, login)


def _target(host: str, port: int) -> Target:
    try:
        return from_text(host, port)
    except ValueError:
        return host, port


def target_text(target: Target) -> str:
    """Returns a target for people and for HTTP: `192.0.2.1:33445`, `relay.example:443`."""
    return f"{target[0]}:{target[1]}" if isinstance(target, tuple) else to_text(target)


Login: TypeAlias = tuple[str, str] | None


class Tunnel(Protocol):
    """The steps of one connection through a proxy."""

    rest: bytes
    """What came behind the proxy's last word: the relay's first bytes."""

    def start(self) -> bytes:
        """Returns what is sent first."""
        ...

    def receive(self, data: bytes) -> bytes:
        """Takes what came; returns what is to be sent. Raises TunnelRefused."""
        ...

    @property
    def open(self) -> bool:
        """Whether the relay is at the other end now."""
        ...


class HttpTunnel:
    """HTTP CONNECT (RFC 9110, 9.3.6), with a Basic login if there is one."""

    __slots__ = ("_head", "_login", "_open", "_target", "rest")

    def __init__(self, target: Target, login: Login = None) -> None:
        self._target = target
        self._login = login
        self._head = b""
        self._open = False
        self.rest = b""

    @property
    def open(self) -> bool:
        """Whether the proxy has said 2xx."""
        return self._open

    def start(self) -> bytes:
        """Returns the request."""
        if isinstance(self._target, tuple):
            place = name_bytes(self._target[0]) + b":%d" % self._target[1]
        else:
            place = target_text(self._target).encode()
        lines = [b"CONNECT " + place + b" HTTP/1.1", b"Host: " + place]
        if self._login is not None:
            word = base64.b64encode(":".join(self._login).encode())
            lines.append(b"Proxy-Authorization: Basic " + word)
        return b"\r\n".join([*lines, b"", b""])

    def receive(self, data: bytes) -> bytes:
        """Waits for the whole head of the answer."""
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            begins = self._head[:7] == b"HTTP/1."[: len(self._head)]
            if len(self._head) > MAX_HEAD_SIZE or not begins:
                raise TunnelRefused("relay_client_proxy_bad", "the proxy does not speak HTTP")
            return b""
        words = self._head[:end].split(b"\r\n", 1)[0].split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not _is_code(words[1]):
            raise TunnelRefused("relay_client_proxy_bad", "the proxy does not speak HTTP")
        code = words[1].decode()
        if code == "407":
            text = "wants a login" if self._login is None else "refuses our login"
            raise TunnelRefused("relay_client_proxy_login", f"the HTTP proxy {text} (407)")
        if not code.startswith("2"):
            said = words[2][:60].decode("ascii", "replace") if len(words) > 2 else ""
            said = "".join(sign if sign.isprintable() else "?" for sign in said)
            text = f"the HTTP proxy refuses: {code} {said}".rstrip()
            raise TunnelRefused("relay_client_proxy_refused", text)
        self._open = True
        self.rest = self._head[end + 4 :]
        self._head = b""
        return b""


def _is_code(word: bytes) -> bool:
    return len(word) == 3 and word.isdigit()


def name_bytes(name: str) -> bytes:
    """Returns a host's name as the wire has it. Raises TunnelRefused for what is no name."""
    try:
        host = name.encode("ascii" if name.isascii() else "idna")
    except UnicodeError:
        host = b""
    if not 0 < len(host) <= MAX_NAME_SIZE or any(not 0x20 < byte < 0x7F for byte in host):
        raise TunnelRefused("relay_client_proxy_refused", "the relay's name is none")
    return host


class _Socks(Enum):
    """What a SOCKS5 tunnel waits for."""

    METHOD = "which login the proxy wants"
    LOGIN = "whether the login is good"
    REPLY = "whether the relay was reached"
    OPEN = "nothing any more"


_SOCKS_MOVES = {
    _Socks.METHOD: (_Socks.LOGIN, _Socks.REPLY),
    _Socks.LOGIN: (_Socks.REPLY,),
    _Socks.REPLY: (_Socks.OPEN,),
    _Socks.OPEN: (),
}

_NO_LOGIN, _PASSWORD, _NONE_FITS = 0x00, 0x02, 0xFF  # RFC 1928, 3: methods
_BOUND_SIZES = {1: 4, 4: 16}  # RFC 1928, 5: address types with a size of their own
_REPLIES = {  # RFC 1928, 6
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}


class Socks5Tunnel:
    """SOCKS5 (RFC 1928), with user and password (RFC 1929) if there are some."""

    __slots__ = ("_came", "_login", "_target", "_waits", "rest")

    def __init__(self, target: Target, login: Login = None) -> None:
        self._target = target
        self._login = login
        self._waits = _Socks.METHOD
        self._came = b""
        self.rest = b""

    @property
    def open(self) -> bool:
        """Whether the proxy has reached the relay."""
        return self._waits is _Socks.OPEN

    def start(self) -> bytes:
        """Returns the methods of login that we know."""
        return b"\x05\x02\x00\x02" if self._login is not None else b"\x05\x01\x00"

    def receive(self, data: bytes) -> bytes:
        """Takes the three answers of the proxy, in any pieces (at most 262 bytes)."""
        self._came += data
        answer = b""
        while not self.open:
            sent = self._step()
            if sent is None:
                return answer
            answer += sent
        self.rest, self._came = self._came, b""
        return answer

    def _step(self) -> bytes | None:
        """Returns what follows from the next answer, or None while that is not whole."""
        came = self._came
        if self._waits is _Socks.REPLY:
            return self._take_reply(came)
        if len(came) < 2:
            return None
        self._came = came[2:]
        if self._waits is _Socks.METHOD:
            return self._take_method(came[0], came[1])
        if came[0] != 1 or came[1]:
            raise TunnelRefused("relay_client_proxy_login", "the SOCKS5 proxy refuses our login")
        self._go(_Socks.REPLY)
        return self._request()

    def _go(self, to: _Socks) -> None:
        if to not in _SOCKS_MOVES[self._waits]:
            raise ValueError(f"a tunnel that waits for {self._waits.value} goes not there")
        self._waits = to

    def _take_method(self, version: int, method: int) -> bytes:
        if version != 5:
            raise TunnelRefused("relay_client_proxy_bad", "the proxy does not speak SOCKS5")
        if method == _NO_LOGIN:
            self._go(_Socks.REPLY)
            return self._request()
        if method == _PASSWORD and self._login is not None:
            self._go(_Socks.LOGIN)
            user, password = (word.encode() for word in self._login)
            return b"\x01" + bytes((len(user),)) + user + bytes((len(password),)) + password
        text = "wants a login that we have not" if method == _NONE_FITS else "wants another login"
        raise TunnelRefused("relay_client_proxy_login", f"the SOCKS5 proxy {text}")

    def _request(self) -> bytes:
        target = self._target
        if isinstance(target, tuple):
            host, port = name_bytes(target[0]), target[1]
            return b"\x05\x01\x00\x03" + bytes((len(host),)) + host + port.to_bytes(2, "big")
        sort = b"\x01" if is_ipv4(target) else b"\x04"
        return b"\x05\x01\x00" + sort + ip_of(target) + port_of(target).to_bytes(2, "big")

    def _take_reply(self, came: bytes) -> bytes | None:
        if len(came) < 2:
            return None
        if came[0] != 5:
            raise TunnelRefused("relay_client_proxy_bad", "the proxy does not speak SOCKS5")
        if came[1]:  # some send no address then
            said = _REPLIES.get(came[1], f"error {came[1]}")
            raise TunnelRefused("relay_client_proxy_refused", f"the SOCKS5 proxy refuses: {said}")
        if len(came) < 5:
            return None
        size = came[4] + 1 if came[3] == 3 else _BOUND_SIZES.get(came[3], -1)
        if size < 0:
            raise TunnelRefused("relay_client_proxy_bad", "the proxy does not speak SOCKS5")
        if len(came) < 6 + size:
            return None
        self._came = came[6 + size :]
        self._go(_Socks.OPEN)
        return b""
