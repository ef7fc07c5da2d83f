"""The UDP sockets of an identity on an asyncio loop."""

import asyncio
import socket
from collections import Counter
from collections.abc import Sequence

import pytest

from core.endpoint import Endpoint, from_text
from tests.identity.clock import run
from toxmesh.identity.udp import PortError, UdpPort

LOCAL = ("127.0.0.1", "::1")


class Box:
    """Keeps what comes."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.sources: list[Endpoint] = []
        self.came = asyncio.Event()

    def __call__(self, packets: Sequence[bytes], sources: Sequence[Endpoint]) -> None:
        self.packets += packets
        self.sources += sources
        self.came.set()


def test_datagrams_go_both_ways_on_both_families() -> None:
    async def talk() -> None:
        loop = asyncio.get_running_loop()
        box, drops = Box(), Counter[str]()
        one = UdpPort(loop, box, drops, (0, 0), LOCAL)
        other = UdpPort(loop, box, drops, (0, 0), LOCAL)
        assert one.port != other.port
        assert (one.has_ipv4, one.has_ipv6) == (True, True)
        for host in LOCAL:
            one.send(from_text(host, other.port), host.encode())
        assert box.packets == []
        one.flush()
        while len(box.packets) < 2:
            await asyncio.wait_for(box.came.wait(), 5)
            box.came.clear()
        assert sorted(box.packets) == sorted(host.encode() for host in LOCAL)
        assert set(box.sources) == {from_text(host, one.port) for host in LOCAL}
        one.close()
        other.close()
        assert drops == {}

    asyncio.run(talk())


def test_more_than_a_batch_arrives_whole() -> None:
    async def talk() -> None:
        loop = asyncio.get_running_loop()
        box, drops = Box(), Counter[str]()
        one = UdpPort(loop, box, drops, (0, 0), LOCAL[:1])
        for number in range(300):
            one.send(from_text(LOCAL[0], one.port), number.to_bytes(2, "big"))
        one.flush()
        while len(box.packets) < 300:
            await asyncio.wait_for(box.came.wait(), 5)
            box.came.clear()
        assert [int.from_bytes(packet, "big") for packet in box.packets] == list(range(300))
        one.close()

    asyncio.run(talk())


def test_what_comes_one_behind_the_other_is_gathered_and_nothing_waits_for_long() -> None:
    async def talk() -> None:
        loop = asyncio.get_running_loop()
        sizes: list[int] = []
        came = asyncio.Event()

        def on_batch(packets: Sequence[bytes], sources: Sequence[Endpoint]) -> None:
            sizes.append(len(packets))
            came.set()

        one = UdpPort(loop, on_batch, Counter(), (0, 0), LOCAL[:1])
        own = from_text(LOCAL[0], one.port)

        async def send_and_wait() -> float:
            """Sends a datagram; returns when it has come."""
            came.clear()
            one.send(own, b"x")
            one.flush()
            await came.wait()
            return loop.time()

        begin = loop.time()
        for _ in range(5):
            end = await send_and_wait()
        assert end == begin  # at once, one by one
        for _ in range(10):
            one.send(own, b"x")
            one.flush()
            await asyncio.sleep(0)
        assert sum(sizes) == 5
        came.clear()
        await came.wait()
        assert await send_and_wait() <= begin + 0.1
        assert sizes[5:] == [10, 1]
        await asyncio.sleep(1)
        later = loop.time()
        assert await send_and_wait() == later  # the loop watches again
        one.close()

    run(talk())


@pytest.mark.parametrize(("gathered", "pause"), [(32, 0.02), (64, 0.02), (128, 0.01)])
def test_the_more_has_gathered_the_sooner_is_the_next_look(gathered: int, pause: float) -> None:
    async def talk() -> None:
        loop, box = asyncio.get_running_loop(), Box()
        one = UdpPort(loop, box, Counter(), (0, 0), LOCAL[:1])

        async def bring(count: int) -> float:
            """Sends datagrams; returns when the last of them has come."""
            wanted = len(box.packets) + count
            for _ in range(count):
                one.send(from_text(LOCAL[0], one.port), b"x")
            one.flush()
            while len(box.packets) < wanted:
                box.came.clear()
                await box.came.wait()
            return loop.time()

        for _ in range(6):
            await bring(1)
        before = await bring(gathered)
        assert await bring(1) == pytest.approx(before + pause)
        one.close()

    run(talk())


def test_a_port_that_is_closed_while_datagrams_gather_is_read_no_more() -> None:
    async def talk() -> None:
        loop, box = asyncio.get_running_loop(), Box()
        one = UdpPort(loop, box, Counter(), (0, 0), LOCAL[:1])
        for _ in range(8):
            one.send(from_text(LOCAL[0], one.port), b"x")
            one.flush()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        count = len(box.packets)
        assert 0 < count < 8
        one.close()
        await asyncio.sleep(1)
        assert len(box.packets) == count

    run(talk())


def test_the_first_free_port_of_a_range_is_taken_for_both_families() -> None:
    async def bind() -> None:
        loop = asyncio.get_running_loop()
        first = UdpPort(loop, Box(), Counter(), (0, 0), LOCAL)
        span = (first.port, first.port + 20)
        second = UdpPort(loop, Box(), Counter(), span, LOCAL)
        assert first.port < second.port <= span[1]
        with pytest.raises(PortError, match=f"no UDP port of {first.port}-{first.port} can be had"):
            UdpPort(loop, Box(), Counter(), (first.port, first.port), LOCAL)
        first.close()
        again = UdpPort(loop, Box(), Counter(), (first.port, first.port), LOCAL)
        again.close()
        second.close()

    asyncio.run(bind())


def test_a_family_without_socket_is_counted() -> None:
    async def bind() -> None:
        drops = Counter[str]()
        port = UdpPort(asyncio.get_running_loop(), Box(), drops, (0, 0), LOCAL[:1])
        assert (port.has_ipv4, port.has_ipv6) == (True, False)
        port.send(from_text("::1", 1), b"x")
        port.flush()
        assert drops == {"no_socket_for_family": 1}
        port.close()

    asyncio.run(bind())


def test_a_machine_without_ipv6_has_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without(family: int = -1, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *rest)

    async def bind() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(socket, "socket", without)
        port = UdpPort(loop, Box(), Counter(), (0, 0), LOCAL)
        monkeypatch.undo()
        assert (port.has_ipv4, port.has_ipv6) == (True, False)
        port.close()
        monkeypatch.setattr(socket, "socket", without)
        with pytest.raises(PortError, match="no family of these addresses"):
            UdpPort(loop, Box(), Counter(), (0, 0), ("::1",))
        monkeypatch.undo()

    asyncio.run(bind())
