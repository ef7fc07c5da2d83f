"""How fast files go between an identity of ours and libtoxcore, and what they cost both.

`python -m tests.identity.bench_files` sends a file of 50 MB over loopback in three pairs, one after
the other: libtoxcore to libtoxcore, ours to libtoxcore, libtoxcore to ours. For each side it tells
the CPU time of its process for a megabyte; that of a libtoxcore client is its Python handlers' too,
as ours is the Python program's. `--quick` sends 10 MB once, with one version.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from core.messenger.events import FileOffer
from tests.interop import nodes, peers
from tests.interop.chat import Pair
from tests.interop.driver import Client, wait_until
from tests.interop.nodes import Node
from tests.interop.peers import NEW, OLD
from toxmesh.identity.identity import Identity

PAIRS = ("theirs-theirs", "ours-theirs", "theirs-ours")
RATE_BAR, CPU_BAR = 0.9, 1.0  # of libtoxcore to libtoxcore: at least, at most
_FRIENDS_S, _FILE_S = 120.0, 120.0
_RESUME = 0  # tox.h: Tox_File_Control


@dataclass(frozen=True, slots=True)
class Row:
    """One file."""

    version: str
    pair: str
    """Sender and receiver."""
    rate: float
    """Megabytes a second, from the receiver's yes to its last byte."""
    sender_cpu: float
    """Seconds of the sender's process for a megabyte."""
    receiver_cpu: float


class _Meter:
    """The time and the CPU time of two processes, from now on."""

    def __init__(self, sender: int | None, receiver: int | None) -> None:
        """Takes their ids; None is this process."""
        self._processes = psutil.Process(sender), psutil.Process(receiver)
        self._before = self._cpu()
        self._began = time.monotonic()

    def _cpu(self) -> list[float]:
        times = [process.cpu_times() for process in self._processes]
        return [each.user + each.system for each in times]

    def row(self, version: str, pair: str, size: int) -> Row:
        """Returns what it took for so many bytes."""
        seconds = time.monotonic() - self._began
        cost = [after - before for before, after in zip(self._before, self._cpu(), strict=True)]
        megabytes = size / 1e6
        return Row(version, pair, megabytes / seconds, cost[0] / megabytes, cost[1] / megabytes)


def _offered(client: Client) -> Callable[[], bool]:
    return lambda: bool(client.told("offer"))


def _accept(client: Client, friend: int) -> None:
    number = client.told("offer")[-1]["file"]
    client.call("file_control", friend=friend, file=number, control=_RESUME)


def among_theirs(make: Callable[[str], Client], version: str, size: int) -> Row:
    """Sends a file between two clients of libtoxcore."""
    sender, receiver = make("Alice"), make("Bob")
    number = int(sender.call("friend_accept", key=receiver.public_key.hex()))
    other = int(receiver.call("friend_accept", key=sender.public_key.hex()))
    pair = Pair(sender, receiver, number, other)
    wait_until(lambda: pair.are_friends((2,) if sender.port else (1,)), "friends", _FRIENDS_S)
    receiver.call("hold_files")
    sender.call("send_file", friend=number, size=size, seed=1)
    wait_until(_offered(receiver), "the offer", _FILE_S)
    meter = _Meter(sender.pid, receiver.pid)
    _accept(receiver, other)
    wait_until(lambda: bool(receiver.files), "the file", _FILE_S, 0.02)
    row = meter.row(version, PAIRS[0], size)
    assert receiver.files[0][0] == size
    return row


class _Ours:
    """An identity of ours with a client for a friend."""

    def __init__(self, own: Identity, client: Client) -> None:
        self.own, self.client = own, client
        self.friend = client.public_key
        self.number = 0
        self._offer: asyncio.Future[FileOffer] = asyncio.get_running_loop().create_future()

    async def _until(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.02)

    async def meet(self) -> None:
        """They become friends, and reach each other as they do from then on."""
        own, client = self.own, self.client
        own.accept(self.friend)
        self.number = int(client.call("friend_accept", key=own.public_key.hex()))
        wanted = 2 if client.port else 1

        def met() -> bool:
            return own.is_online(self.friend) and client.friends.get(self.number) == wanted

        await self._until(met, "friends", _FRIENDS_S)
        await asyncio.sleep(1)  # names and the like have gone

    async def _listen(self) -> None:
        async for event in self.own.events():
            if isinstance(event, FileOffer):
                self._offer.set_result(event)

    async def send(self, version: str, size: int) -> Row:
        """Sends the client a file."""
        data = random.Random(1).randbytes(size)
        self.client.call("hold_files")
        sending = asyncio.create_task(self.own.send_file(self.friend, data, "file"))
        await self._until(_offered(self.client), "the offer", _FILE_S)
        meter = _Meter(None, self.client.pid)
        _accept(self.client, self.number)
        async with asyncio.timeout(_FILE_S):
            await sending
        row = meter.row(version, PAIRS[1], size)
        assert self.client.files[0][0] == size
        return row

    async def receive(self, version: str, size: int) -> Row:
        """Has the client send one."""
        listening = asyncio.create_task(self._listen())
        self.client.call("send_file", friend=self.number, size=size, seed=1)
        async with asyncio.timeout(_FILE_S):
            offer = await self._offer
            meter = _Meter(self.client.pid, None)
            data = await self.own.receive_bytes(offer, most=size)
        row = meter.row(version, PAIRS[2], size)
        assert len(data) == size
        listening.cancel()
        return row


def with_ours(node: Node, client: Client, version: str, pair: str, size: int) -> Row:
    """Sends a file between an identity of ours, in this process, and a client of libtoxcore."""
    at = f"{node.host}:%d:{node.key.hex()}"

    async def main() -> Row:
        own = Identity.create(
            "Ours",
            bootstrap=[at % node.udp_port],
            relays=[at % node.tcp_port],
            udp=bool(client.port),
            ports=(0, 0),
            hosts=("127.0.0.1",),
        )
        async with own:
            ours = _Ours(own, client)
            await ours.meet()
            return await (ours.send if pair == PAIRS[1] else ours.receive)(version, size)

    return asyncio.run(main())


def measure(version: str, pair: str, size: int, udp: bool) -> Row:
    """Sends one file, with a node and clients of its own."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        node = nodes.start_ours(Path(folder))
        stack.callback(node.stop)

        def make(name: str) -> Client:
            client = Client(peers.library(version), name=name, udp=udp)
            stack.callback(client.close)
            client.meet(node.host, node.udp_port, node.tcp_port, node.key, udp=udp)
            return client

        if pair == PAIRS[0]:
            return among_theirs(make, version, size)
        return with_ours(node, make("Bob"), version, pair, size)


def _median(rows: Sequence[Row]) -> Row:
    """Returns the medians of the same file sent several times."""
    rate = statistics.median(row.rate for row in rows)
    sender = statistics.median(row.sender_cpu for row in rows)
    receiver = statistics.median(row.receiver_cpu for row in rows)
    return Row(rows[0].version, rows[0].pair, rate, sender, receiver)


def _line(row: Row, base: Row | None) -> str:
    """Returns a line about a pair, beside libtoxcore with itself if that was measured."""
    text = (
        f"{row.version:8}{row.pair:15}{row.rate:7.1f}"
        f"{row.sender_cpu * 1e3:11.1f}{row.receiver_cpu * 1e3:11.1f}"
    )
    if base is None or row is base:
        return text
    ours, theirs = (
        (row.sender_cpu, base.sender_cpu)
        if row.pair == PAIRS[1]
        else (row.receiver_cpu, base.receiver_cpu)
    )
    rate, cpu = row.rate / base.rate, ours / theirs
    good = rate >= RATE_BAR and cpu <= CPU_BAR
    return f"{text}   {rate:5.2f}{cpu:6.2f}  {'yes' if good else 'NO'}"


def main(words: Sequence[str] | None = None) -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.identity.bench_files")
    parser.add_argument("--size", type=float, default=50.0, help="megabytes (50)")
    parser.add_argument("--repeat", type=int, default=3, help="files of each pair; medians (3)")
    parser.add_argument("--versions", help=f"of libtoxcore ({OLD},{NEW})")
    parser.add_argument("--pairs", default=",".join(PAIRS), help="comma separated")
    parser.add_argument("--relay", action="store_true", help="through our relay, without UDP")
    parser.add_argument("--quick", action="store_true", help="10 MB once, one version")
    parser.add_argument("--json", metavar="FILE", type=Path, help="writes all figures there")
    args = parser.parse_args(words)
    if args.quick:
        args.size, args.repeat = 10.0, 1
    versions = args.versions or (OLD if args.quick else f"{OLD},{NEW}")
    size = int(args.size * 1e6)
    heading = "libtox  pair            MB/s  send ms/MB  recv ms/MB    rate   cpu  as wanted"
    print(heading)
    everything: list[Row] = []
    for version in versions.split(","):
        found: dict[str, list[Row]] = {pair: [] for pair in args.pairs.split(",")}
        for turn in range(args.repeat):  # in turn: what else the machine does hits all pairs
            for pair, rows in found.items():
                rows.append(measure(version, pair, size, not args.relay))
                print(f"{turn + 1}: {rows[-1]}", file=sys.stderr, flush=True)
        everything += [row for rows in found.values() for row in rows]
        medians = {pair: _median(rows) for pair, rows in found.items()}
        for row in medians.values():
            print(_line(row, medians.get(PAIRS[0])), flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(row) for row in everything], indent=1))


if __name__ == "__main__":
    main()
