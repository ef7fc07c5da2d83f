"""Real sockets: pools that meet at a relay directly and through proxies; the dialer's bounds."""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

import pytest

from core.endpoint import from_text
from core.relay_client import Proxy
from tests.interop.nodes import has_address
from tests.relay_client.keys import some_key
from tests.relay_client.proxies import Seen, TestProxy
from tests.relay_client.served import meet, members, relay_at, until
from toxmesh.identity.dialer import AsyncDialer


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 120))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_two_pools_exchange_megabytes_over_real_sockets(host: str) -> None:
    if host == "::1" and not has_address(host):
        host = "127.0.0.1"

    async def story() -> None:
        async with relay_at(host) as (relay, place), members(2) as (alice, bob):
            meet(alice, bob, place, relay.keys.public)
            await until(lambda: alice.pool.is_linked(bob.key), "the link")
            await until(lambda: bob.pool.is_linked(alice.key), "the link back")
            sent = 0
            while sent < 1500:
                if alice.pool.send(bob.key, sent.to_bytes(2, "big") * 700, alice.now):
                    sent += 1
                else:
                    await asyncio.sleep(0)
            await until(lambda: len(bob.data) == sent, "all data")
            assert [int.from_bytes(data[:2], "big") for data in bob.data] == list(range(sent))
            assert not alice.drops
            assert not bob.drops

    run(story())


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("login", [None, ("anna", "sécret")])
@pytest.mark.parametrize("named", [False, True])
def test_relays_are_reached_through_proxies(
    kind: str, login: tuple[str, str] | None, named: bool
) -> None:
    async def story() -> None:
        proxy = TestProxy(login)
        proxy.names["relay.invalid"] = "127.0.0.1"
        async with relay_at() as (relay, place), proxy.running(kind):
            port = int.from_bytes(place[2:4], "big")
            user, password = login or (None, "")
            settings = Proxy(
                "http" if kind == "http" else "socks5",
                ("localhost", proxy.port) if named else from_text("127.0.0.1", proxy.port),
                user,
                password,
            )
            async with members(1, settings) as (alice,), members(1) as (bob,):
                target = ("relay.invalid", port) if named else place
                alice.pool.add_relay(target, relay.keys.public, alice.now)
                meet(alice, bob, place, relay.keys.public)
                await until(lambda: alice.pool.is_linked(bob.key), "the link")
                await until(lambda: bob.pool.is_linked(alice.key), "the link back")
                assert alice.pool.send(bob.key, b"through", alice.now)
                await until(lambda: bob.data == [b"through"], "the data")
                host = "relay.invalid" if named else "127.0.0.1"
                assert proxy.seen == [Seen(host, port, user or "")]

    run(story())


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("given", [None, ("anna", "wrong")])
def test_a_proxy_that_wants_a_login_says_so(kind: str, given: tuple[str, str] | None) -> None:
    async def story() -> None:
        async with TestProxy(("anna", "right")).running(kind) as proxy:
            user, password = given or (None, "")
            settings = Proxy(
                "http" if kind == "http" else "socks5",
                from_text("127.0.0.1", proxy.port),
                user,
                password,
            )
            async with members(1, settings) as (alice,):
                alice.pool.add_relay(from_text("192.0.2.1", 443), some_key(1), alice.now)
                await until(lambda: bool(alice.troubles()), "the refusal")
                assert "login" in alice.troubles()[0]
                assert alice.drops["relay_client_proxy_login"] == 1
                assert proxy.seen == []

    run(story())


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_a_proxy_that_refuses_is_quoted(kind: str) -> None:
    async def story() -> None:
        async with TestProxy().running(kind) as proxy:
            proxy.refuses = True
            settings = Proxy(
                "http" if kind == "http" else "socks5", from_text("127.0.0.1", proxy.port)
            )
            async with members(1, settings) as (alice,):
                alice.pool.add_relay(from_text("2001:db8::7", 443), some_key(1), alice.now)
                await until(lambda: bool(alice.troubles()), "the refusal")
                assert "refuses" in alice.troubles()[0]
                assert alice.drops["relay_client_proxy_refused"] == 1
                assert proxy.seen[0].port == 443
                assert proxy.seen[0].host.endswith("7")

    run(story())


class Heard:
    """Notes what a dialer tells."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.data = b""

    def handle_connected(self, line: int, now: float) -> None:
        self.told.append(("connected", line))

    def handle_bytes(self, line: int, data: bytes, now: float) -> None:
        self.data += data

    def handle_writable(self, line: int, now: float) -> None:
        self.told.append(("writable", line))

    def handle_closed(self, line: int, now: float) -> None:
        self.told.append(("closed", line))


def dialer() -> tuple[AsyncDialer, Heard]:
    made, heard = AsyncDialer(), Heard()
    made.listener = heard
    return made, heard


def test_dials_that_fail_are_told_and_those_that_are_hung_up_are_not() -> None:
    async def story() -> None:
        made, heard = dialer()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        made.dial(1, from_text("127.0.0.1", port))
        made.dial(2, ("no such name\x00", 1))
        made.dial(3, ("relay.invalid" * 30, 1))
        made.dial(4, from_text("127.0.0.1", port))
        assert heard.told == []  # never from inside
        made.hang_up(4)
        made.hang_up(99)
        await until(lambda: len(heard.told) == 3, "three refusals")
        assert sorted(heard.told) == [("closed", 1), ("closed", 2), ("closed", 3)]
        assert made.write(1, b"x") == 0
        assert len(made) == 0
        made.dial(6, from_text("127.0.0.1", port))
        made.dial(7, ("localhost", port))
        made.close()
        await asyncio.sleep(0.1)
        assert len(heard.told) == 3

    run(story())


def test_the_addresses_of_a_name_are_tried_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        made, heard = dialer()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            shut = taken.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as server:
            row = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            found = [
                (socket.AF_UNIX, socket.SOCK_STREAM, 0, "", ("/nowhere", 0)),
                (*row, ("127.0.0.1", shut)),
                (*row, ("127.0.0.1", server.getsockname()[1])),
            ]

            async def answer(*_: object, **__: object) -> object:
                return found

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answer)
            made.dial(1, ("relay.example", 1))
            await until(lambda: heard.told == [("connected", 1)], "the connection")
            made.close()
            found = found[:2]
            made.dial(2, ("relay.example", 1))
            await until(lambda: heard.told[1:] == [("closed", 2)], "the end")

    run(story())


def test_a_peer_that_reads_nothing_stops_the_writing_and_is_written_to_later() -> None:
    async def story() -> None:
        made, heard = dialer()
        with socket.create_server(("127.0.0.1", 0)) as server:
            made.dial(1, from_text("127.0.0.1", server.getsockname()[1]))
            await until(lambda: heard.told == [("connected", 1)], "the connection")
            theirs, _ = server.accept()
            with theirs:
                written = 0
                while taken := made.write(1, bytes(16_384)):
                    written += taken
                    assert written < 1 << 26
                assert made.write(1, b"more") == 0
                theirs.setblocking(False)
                got = 0

                def read_on() -> bool:
                    nonlocal got
                    try:
                        got += len(theirs.recv(1 << 20))
                    except BlockingIOError:
                        return got == written
                    return False

                await until(read_on, "all that was written")
                await until(lambda: ("writable", 1) in heard.told, "room")
                assert made.write(1, b"more") == 4
                made.write(1, b" and more")
                await asyncio.sleep(0.05)  # what a turn of the loop writes is sent at its end
                assert theirs.recv(20) == b"more and more"
                theirs.sendall(b"and back")
                await until(lambda: heard.data == b"and back", "the answer")
            await until(lambda: heard.told[-1] == ("closed", 1), "the end")
            assert len(made) == 0

    run(story())


def test_after_hang_up_nothing_is_heard_and_the_other_side_sees_the_end() -> None:
    async def story() -> None:
        made, heard = dialer()
        with socket.create_server(("127.0.0.1", 0)) as server:
            for line in (1, 2):
                made.dial(line, from_text("127.0.0.1", server.getsockname()[1]))
            await until(lambda: len(heard.told) == 2, "the connections")
            theirs = [server.accept()[0] for _ in range(2)]
            while made.write(2, bytes(16_384)):
                pass  # until it does not take more: this one cannot be waited for
            for one in theirs:
                one.sendall(b"late")
            made.close()
            await asyncio.sleep(0.05)
            assert heard.data == b""
            assert len(heard.told) == 2
            theirs[0].settimeout(5)
            with pytest.raises(ConnectionResetError):  # for "late" was not read
                theirs[0].recv(10)
            for one in theirs:
                one.close()

    run(story())


def test_many_identities_share_one_buffer_and_small_packets_do_not_wait() -> None:
    async def story() -> None:
        async with relay_at() as (relay, place), members(40, standing=1) as many:
            for member in many:
                member.pool.add_relay(place, relay.keys.public, member.now)
            await until(lambda: all(one.pool.is_connected() for one in many), "all connected")
            assert len({id(member.dialer.buffer) for member in many}) == 1
            for member in many:
                (line,) = member.dialer._lines.values()
                assert line._socket is not None
                assert line._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(story())
