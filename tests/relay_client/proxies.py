"""Small proxies with real sockets: HTTP CONNECT and SOCKS5, with and without a login."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple


class Seen(NamedTuple):
    """Whereto a proxy was asked to connect."""

    host: str
    port: int
    user: str


class TestProxy:
    """A proxy on loopback. Names are looked up in `names` alone: nothing is asked elsewhere."""

    __test__ = False

    def __init__(self, login: tuple[str, str] | None = None) -> None:
        self.login = login
        self.names: dict[str, str] = {}
        self.seen: list[Seen] = []
        self.refuses = False
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self, kind: str) -> AsyncIterator["TestProxy"]:
        """Serves `http` or `socks5` for a while."""
        speak = self._http if kind == "http" else self._socks5

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await speak(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                self._tasks.discard(task)
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, place, _ = head[0].split(" ")
        assert method == "CONNECT"
        fields = dict(line.split(": ", 1) for line in head[1:] if line)
        assert fields["Host"] == place
        user = ""
        if self.login is not None:
            word = base64.b64encode(":".join(self.login).encode()).decode()
            if fields.get("Proxy-Authorization") != f"Basic {word}":
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n")
                writer.write(b'Proxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n')
                return
            user = self.login[0]
        host, port = place.rsplit(":", 1)
        self.seen.append(Seen(host.strip("[]"), int(port), user))
        if self.refuses:
            writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        await self._join(reader, writer, b"HTTP/1.1 200 OK\r\nVia: 1.1 test\r\n\r\n")

    async def _socks5(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        assert version == 5
        user = ""
        if self.login is None:
            writer.write(b"\x05\x00")
        elif 2 not in methods:
            writer.write(b"\x05\xff")
            return
        else:
            writer.write(b"\x05\x02")
            one, size = await reader.readexactly(2)
            assert one == 1
            user = (await reader.readexactly(size)).decode()
            password = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
            if (user, password) != self.login:
                writer.write(b"\x01\x01")
                return
            writer.write(b"\x01\x00")
        version, command, _, sort = await reader.readexactly(4)
        assert (version, command) == (5, 1)
        if sort == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        elif sort == 1:
            host = ".".join(str(byte) for byte in await reader.readexactly(4))
        else:
            raw = (await reader.readexactly(16)).hex()
            host = ":".join(raw[at : at + 4] for at in range(0, 32, 4))
        self.seen.append(Seen(host, int.from_bytes(await reader.readexactly(2), "big"), user))
        if self.refuses:
            writer.write(b"\x05\x02\x00\x01" + bytes(6))
            return
        await self._join(reader, writer, b"\x05\x00\x00\x01" + bytes(6))

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, granted: bytes
    ) -> None:
        host = self.names.get(self.seen[-1].host, self.seen[-1].host)
        far_reader, far_writer = await asyncio.open_connection(host, self.seen[-1].port)
        writer.write(granted)
        try:
            await asyncio.gather(_pour(reader, far_writer), _pour(far_reader, writer))
        finally:
            far_writer.close()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()
    writer.close()
