"""UDP between an identity and a client of libtoxcore is cut amid a file, and comes back.

Both have the same relay. The file goes on there without the friend going offline, and returns to
UDP when that is let through again.
"""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from core.endpoint import Endpoint, port_of
from core.messenger.events import Connection, ConnectionChanged, FileOffer
from tests.identity.test_libtoxcore import Alice, content, tell, until, within
from tests.interop.chat import OVER_TCP, OVER_UDP
from tests.interop.conftest import MakeClient, MakeNode, make_client, make_node
from tests.interop.peers import NEW, OLD
from toxmesh.identity.host import EngineRunner
from toxmesh.identity.identity import Identity

pytestmark = [pytest.mark.interop, pytest.mark.process, pytest.mark.slow]
__all__ = ["make_client", "make_node"]

SIZE = 100_000_000
GOES_ON_S = 14.0  # 8 s of silence say that the way is lost (core/net_crypto/path.py: ALIVE_S)
BACK_S = 12.0  # a small packet tries the way every 4 s


class Cut:
    """A switch in an identity's UDP port: while it is open, nothing passes to and from a peer."""

    def __init__(self, own: Identity, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """`port` is the peer's."""
        assert isinstance(own._runner, EngineRunner)
        udp = own._runner._udp
        assert udp is not None
        self._port = port
        self._send, self._took = udp.send, udp._on_batch
        self.open = False
        self.dropped = 0
        monkeypatch.setattr(udp, "send", self._sends)
        monkeypatch.setattr(udp, "_on_batch", self._takes)

    def _sends(self, endpoint: Endpoint, packet: bytes) -> None:
        if self.open and port_of(endpoint) == self._port:
            self.dropped += 1
        else:
            self._send(endpoint, packet)

    def _takes(self, packets: Sequence[bytes], sources: Sequence[Endpoint]) -> None:
        rows = list(zip(packets, sources, strict=True))
        kept = [row for row in rows if not (self.open and port_of(row[1]) == self._port)]
        self.dropped += len(rows) - len(kept)
        self._took([packet for packet, _ in kept], [source for _, source in kept])


@pytest.mark.parametrize("we_send", [True, False], ids=["ours", "theirs"])
@pytest.mark.parametrize("version", [NEW, OLD])
def test_udp_is_cut_in_the_middle_of_a_file_which_goes_on_by_relay_and_back(
    version: str,
    we_send: bool,
    make_node: MakeNode,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    node, client = make_node("ours"), make_client(version, name="Bob")
    at = 0

    def progress(position: int, size: int | None) -> None:
        nonlocal at
        at = position

    async def transfer(alice: Alice) -> None:
        """A file, until it is whole at the other end, byte for byte."""
        if we_send:
            data = content(SIZE, 8)
            await alice.own.send_file(alice.bob, data, progress=progress)
            await until(lambda: client.files, "the client has all of it")
            assert client.files == [(SIZE, hashlib.sha256(data).hexdigest())]
            assert not client.told("file_disorder")
            return
        digest = client.call("send_file", friend=alice.number, size=SIZE, seed=8)
        await until(lambda: alice.heard(FileOffer), "their offer")
        offer = alice.heard(FileOffer)[0]
        got = await alice.own.receive_file(offer, tmp_path / "theirs", progress=progress)
        assert hashlib.sha256(got.read_bytes()).hexdigest() == digest

    def came() -> int:
        """How much of the file is at its receiver."""
        return client.progress if we_send else at

    def ways(alice: Alice) -> list[Connection]:
        return [event.connection for event in alice.heard(ConnectionChanged)]

    async def story(alice: Alice) -> None:
        relay = {"host": node.host, "port": node.tcp_port, "key": node.key.hex()}
        client.call("add_tcp_relay", **relay)
        await until(lambda: alice.over() == OVER_UDP, "they begin by UDP")
        await until(lambda: ways(alice)[-1] is Connection.DIRECT, "we say so too")
        cut = Cut(alice.own, client.port, monkeypatch)
        sending = asyncio.create_task(transfer(alice))
        await until(lambda: came() > SIZE // 20, "the file is on its way")
        cut.open, cut_at = True, time.monotonic()
        await asyncio.sleep(0.5)  # what was in buffers arrives
        stood = came()
        assert stood < SIZE
        await until(lambda: came() > stood + 100_000, "it goes on by relay", GOES_ON_S)
        print(f"on by relay after {time.monotonic() - cut_at:.1f} s, at {came():,}")
        assert cut.dropped
        assert not sending.done()
        await until(lambda: alice.over() == OVER_TCP, "the client says relay")
        await until(lambda: ways(alice)[-1] is Connection.RELAY, "we say relay")
        await until(lambda: came() > stood + 1_500_000, "more goes by relay")
        cut.open, healed_at = False, time.monotonic()
        await until(lambda: alice.over() == OVER_UDP, "the client says UDP", BACK_S)
        await until(lambda: ways(alice)[-1] is Connection.DIRECT, "we say direct", BACK_S)
        print(f"back after {time.monotonic() - healed_at:.1f} s, at {came():,}")
        assert came() < SIZE, "all of it went by relay: the file is too small for this"
        await within(120, sending)
        assert Connection.NONE not in ways(alice)

    tell(story, node, client, True)
