"""What many identities in one process cost: `python -m tests.identity.bench_many --count N`.

N embedded identities, in pairs of friends, meet over loopback by one node of ours (a process of
its own). Measured are the time until all pairs are online, the growth of this process's memory
for each identity, and its CPU and datagrams while nothing happens.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import socket
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from core.endpoint import Endpoint
from core.entropy import SystemEntropy
from core.savedata.profile import FriendState, Profile, SavedFriend
from tests.interop.nodes import Node, start_ours
from toxmesh import Identity
from toxmesh.identity.host import EngineRunner

COUNT_S = 10.0  # for which datagrams are counted, apart from where CPU is measured
_LIMITS = ("relay.per_address", "relay.per_prefix", "relay.unconfirmed_per_address")


@dataclass
class Figures:
    """What was measured."""

    count: int
    online_s: float
    """Until the last pair was online, from the first start; -1: not all were."""
    online: int
    kib_each: float
    idle_kib_each: float
    """The same after the idle time."""
    joining_cores: float
    idle_cores: float
    node_idle_cores: float
    datagrams_per_s: float
    """That all identities together send while idle."""
    kinds_per_s: dict[str, float]


def ask(node: Node, request: str, args: dict[str, Any]) -> None:
    """Asks the node's control door for something."""
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(str(node.state / "control.sock"))
        line = json.dumps({"version": 1, "request": request, "args": args})
        door.sendall(line.encode() + b"\n")
        with door.makefile("rb") as lines:
            reply = json.loads(lines.readline())
    if not reply["ok"]:
        raise SystemExit(f"the node refused {request}: {reply}")


@contextlib.contextmanager
def one_node() -> Iterator[Node]:
    """Runs a node that lets one address have any number of relay connections."""
    with tempfile.TemporaryDirectory() as folder:
        node = start_ours(Path(folder))
        try:
            for name in _LIMITS:
                ask(node, "limits set", {"name": name, "value": 0})
            yield node
        finally:
            node.stop()


def pairs(count: int) -> list[Profile]:
    """Makes profiles of which each two neighbours are friends."""
    entropy = SystemEntropy()
    profiles = [Profile.generate(entropy, b"%d" % number) for number in range(count)]
    return [
        replace(
            profile,
            friends=(
                SavedFriend(key=profiles[number ^ 1].keys.public, state=FriendState.CONFIRMED),
            ),
        )
        for number, profile in enumerate(profiles)
    ]


@contextlib.contextmanager
def counting(kinds: Counter[str]) -> Iterator[None]:
    """Counts what all identities send meanwhile, by kind."""
    send = EngineRunner.send_udp

    def counted(self: EngineRunner, endpoint: Endpoint, packet: bytes) -> None:
        kinds[f"{packet[0]:02x}"] += 1
        send(self, endpoint, packet)

    with mock.patch.object(EngineRunner, "send_udp", counted):
        yield


def cpu_of(node: Node) -> float:
    """Returns the seconds of CPU of a node's processes so far."""
    supervisor = psutil.Process(node.process.pid)
    times = [each.cpu_times() for each in [supervisor, *supervisor.children(recursive=True)]]
    return float(sum(each.user + each.system for each in times))


def say(text: str) -> None:
    """Tells how far it is."""
    print(text, file=sys.stderr, flush=True)


async def measure(arguments: argparse.Namespace, node: Node) -> Figures:
    """Lets all come online, then does nothing for a while."""
    count, memory = arguments.count, psutil.Process()
    profiles = pairs(count)
    at = f"{node.host}:{node.udp_port}:{node.key.hex().upper()}"
    gc.collect()
    before = memory.memory_info().rss
    if arguments.lines:
        tracemalloc.start()
    begun, cpu = time.monotonic(), time.process_time()
    identities: list[Identity] = []
    for number, profile in enumerate(profiles):
        identity = Identity(profile, bootstrap=[at], hosts=(node.host,), ports=(0, 0))
        await identity.start()
        identities.append(identity)
        wait = begun + number * arguments.join / count - time.monotonic()
        await asyncio.sleep(max(0.0, wait))
    say(f"{time.monotonic() - begun:6.1f} s  all {count} are started")
    online, online_s, told = 0, -1.0, 0.0
    while time.monotonic() < begun + arguments.patience:
        await asyncio.sleep(0.5)
        online = sum(one.is_online(one.friends[0]) for one in identities)
        now = time.monotonic()
        if online == count:
            online_s = now - begun
            break
        if now >= told + 5.0:
            told = now
            reached = sum(one.connected for one in identities)
            say(f"{now - begun:6.1f} s  {reached} can be found, {online} are online")
    joining = (time.process_time() - cpu) / (time.monotonic() - begun)
    gc.collect()
    each = (memory.memory_info().rss - before) / count / 1024
    say(f"{time.monotonic() - begun:6.1f} s  {online} are online, {each:.1f} KiB each")
    await asyncio.sleep(arguments.settle)
    began, cpu, node_cpu = time.monotonic(), time.process_time(), cpu_of(node)
    await asyncio.sleep(arguments.idle)
    spent = time.monotonic() - began
    idle, node_idle = time.process_time() - cpu, cpu_of(node) - node_cpu
    gc.collect()
    idle_each = (memory.memory_info().rss - before) / count / 1024
    kinds: Counter[str] = Counter()
    with counting(kinds):
        await asyncio.sleep(COUNT_S)
    online = sum(one.is_online(one.friends[0]) for one in identities)
    if arguments.lines:
        gc.collect()
        rows = tracemalloc.take_snapshot().statistics("lineno")
        for row in rows[: arguments.lines]:
            where = row.traceback[0]
            say(f"{row.size / count:8.0f} B {row.count / count:7.1f}  {where}")
        tracemalloc.stop()
    drops: Counter[str] = Counter()
    for one in identities:
        drops.update(one.drops())
    say(f"refused: {dict(drops.most_common(12))}")
    for one in identities:
        await one.close()
    return Figures(
        count=count,
        online_s=round(online_s, 1),
        online=online,
        kib_each=round(each, 1),
        idle_kib_each=round(idle_each, 1),
        joining_cores=round(joining, 3),
        idle_cores=round(idle / spent, 3),
        node_idle_cores=round(node_idle / spent, 3),
        datagrams_per_s=round(sum(kinds.values()) / COUNT_S, 1),
        kinds_per_s={kind: number / COUNT_S for kind, number in kinds.most_common()},
    )


def main() -> None:
    """Measures once and prints a line for each figure, or all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="identities, an even number")
    parser.add_argument("--join", type=float, default=0.0, help="seconds in which all are started")
    parser.add_argument("--patience", type=float, default=180.0, help="seconds to come online")
    parser.add_argument("--settle", type=float, default=0.0, help="seconds before the idle time")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds of doing nothing")
    parser.add_argument("--lines", type=int, default=0, help="say which lines hold most memory")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.count < 2 or arguments.count % 2:
        parser.error("--count is an even number")
    with one_node() as node:
        figures = asyncio.run(measure(arguments, node))
    if arguments.json:
        print(json.dumps(asdict(figures)))
        return
    for name, value in asdict(figures).items():
        print(f"{name:16} {value}")


if __name__ == "__main__":
    main()
