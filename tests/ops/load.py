"""What operators cost a busy node: `status` under load, greedy and stuck clients, scrapes.

`python -m tests.ops.load [--seconds N] [--rounds N]` runs a node on loopback and prints the figures
of docs/performance.md. Rounds with and without alternate, so that what else the machine does
meets both alike; medians count.
"""

import argparse
import http.client
import json
import resource
import select
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from ops import client
from tests.processes.node import Node, free_port, running

LOAD = "nodes"  # nodes requests, as many as the node answers
GREEDY, STUCK = 25, 25
_ASK = b'{"version": 1, "request": "status"}\n'
_WARM_S = 1.0
_SETTLED_S = 3.0  # after which besiegers have used what anybody may use at once


class Round(NamedTuple):
    """What the node did in one round."""

    rate: float  # nodes requests that it answered a second
    cpu_us: float  # of all its processes, for each answer


class Compared(NamedTuple):
    """Rounds without and with something."""

    without: list[Round]
    with_it: list[Round]

    def lost(self, figure: str) -> float:
        """Returns the share of the throughput that it costs, by `rate` or `cpu_us`.

        Below 0 is noise. On a machine that does other things as well, and gives the node now more
        and now less, `cpu_us` says more: how much longer an answer keeps the node busy.
        """
        before, after = (
            statistics.median(getattr(row, figure) for row in rows)
            for rows in (self.without, self.with_it)
        )
        return float(1 - (after / before if figure == "rate" else before / after))

    def noise(self, figure: str) -> float:
        """Returns how far the rounds without it are apart, as a share of their median."""
        rows = [getattr(row, figure) for row in self.without]
        return float((max(rows) - min(rows)) / statistics.median(rows))


def cpu(node: Node) -> float:
    """Returns the supervisor's processor time in seconds."""
    return float(node.status()["node"]["cpu_s"])


@contextmanager
def requests(node: Node, seconds: float) -> Iterator[list[Round]]:
    """Lets the node answer as many nodes requests as it can, for so many seconds.

    The list has the round when the block is over, which is to take less than that.
    """
    result: list[Round] = []
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        line = [sys.executable, "-m", "toxmesh", "bench"]
        line += [f"127.0.0.1:{node.udp_port}:{bytes(node.key).hex().upper()}", "--load", LOAD]
        line += ["--seconds", str(seconds), "--json", file.name, "--pid", str(node.process.pid)]
        with subprocess.Popen(line, stdout=subprocess.DEVNULL) as process:
            try:
                yield result
                process.wait(seconds * 4 + 60)
            finally:
                process.kill()
        rows = json.loads(Path(file.name).read_text())["rows"]
        result += [
            Round(float(row["answers_per_s"]), float(row["cpu_us"]))
            for row in rows
            if row["load"] == LOAD
        ]


class Answered(NamedTuple):
    """How long answers took while the node was busy."""

    command_ms: list[float]  # `toxmesh ops status`, from its start to its end
    command_cpu_ms: list[float]  # what of that it had a processor
    door_ms: list[float]  # the request alone
    busy_percent: float  # of a core: the busiest worker meanwhile


def _children_s() -> float:
    """Returns the processor seconds of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def status_under_load(node: Node, seconds: float) -> Answered:
    """Asks for the status again and again while requests keep a worker busy."""
    command: list[float] = []
    processor: list[float] = []
    door: list[float] = []
    busy = []
    line = [sys.executable, "-m", "toxmesh", "ops", "status", "--state-dir", str(node.state_dir)]
    with requests(node, seconds):
        end = time.monotonic() + seconds - 0.5
        select.select([], [], [], _WARM_S + 1.0)
        while time.monotonic() < end:
            begin, used = time.perf_counter(), _children_s()
            subprocess.run(line, stdout=subprocess.DEVNULL, check=True)
            command.append(1000 * (time.perf_counter() - begin))
            processor.append(1000 * (_children_s() - used))
            begin = time.perf_counter()
            answer = client.ask(node.state_dir, "status")
            door.append(1000 * (time.perf_counter() - begin))
            busy.append(max(row["cpu_percent"] for row in answer["workers"]))
            select.select([], [], [], 0.1)
    return Answered(command, processor, door, statistics.median(busy))


def besiege(path: str, seconds: float, greedy: int = GREEDY, stuck: int = STUCK) -> int:
    """Opens control clients that ask as fast as they are answered, and some that never read.

    Returns how many answers (64 KiB pieces of them) the greedy ones got.
    """
    chosen = selectors.DefaultSelector()
    doors = []
    for number in range(greedy + stuck):
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        door.connect(path)
        door.setblocking(False)
        doors.append(door)
        if number < greedy:
            door.send(_ASK)
            chosen.register(door, selectors.EVENT_READ)
        else:
            door.send(_ASK * 64)
    begin = time.monotonic()
    got = 0
    said = False
    while time.monotonic() < begin + seconds:
        if not said and time.monotonic() > begin + _SETTLED_S:
            said = True
            print("settled", flush=True)
        for key, _ in chosen.select(0.1):
            row = key.fileobj
            assert isinstance(row, socket.socket)
            part = row.recv(1 << 16)
            got += 1
            if not part:
                chosen.unregister(row)
            elif part.endswith(b"\n"):
                row.send(_ASK)
    for door in doors:
        door.close()
    return got


def scrape(place: str, seconds: float, path: str = "/metrics", every: float = 1.0) -> int:
    """Asks for a path so often; returns how many times."""
    host, _, port = place.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    end = time.monotonic() + seconds
    count = 0
    print("settled", flush=True)
    while time.monotonic() < end:
        begin = time.monotonic()
        connection.request("GET", path)
        connection.getresponse().read()
        count += 1
        select.select([], [], [], max(0.0, begin + every - time.monotonic()))
    connection.close()
    return count


@contextmanager
def beside(code: str) -> Iterator[IO[str]]:
    """Runs some code of this module in a process of its own; gives what it prints."""
    line = [sys.executable, "-c", f"from tests.ops.load import *; {code}"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()


def compare(node: Node, seconds: float, rounds: int, code: str) -> Compared:
    """Measures requests with and without what `code` does, in turns."""
    result = Compared([], [])
    for number in range(2 * rounds):
        # without, with, with, without: a drift of the machine meets both alike
        with_it = number % 4 in (1, 2)
        if with_it:
            with beside(code) as said:
                said.readline()
                with requests(node, seconds) as done:
                    pass
        else:
            with requests(node, seconds) as done:
                pass
        (result.with_it if with_it else result.without).append(done[-1])
    return result


def cost_of_scrapes(node: Node, place: str, seconds: float) -> tuple[float, float]:
    """Returns the supervisor's CPU in ms a second without scrapes, and in ms for each."""
    before = cpu(node)
    select.select([], [], [], seconds)
    nothing = (cpu(node) - before) / seconds
    before = cpu(node)
    count = scrape(place, seconds, every=0.51)  # an answer is given again for half a second
    return 1000 * nothing, 1000 * (cpu(node) - before - nothing * seconds) / count


def cost_of_siege(node: Node, seconds: float) -> float:
    """Returns the supervisor's CPU under siege, in percent of a core beyond what it takes."""
    before = cpu(node)
    select.select([], [], [], seconds)
    nothing = cpu(node) - before
    with beside(siege(node, seconds + 30)) as said:
        said.readline()
        before = cpu(node)
        select.select([], [], [], seconds)
        used = cpu(node) - before
    return 100 * (used - nothing) / seconds


def siege(node: Node, seconds: float) -> str:
    """Returns the code of a siege."""
    return f"besiege({str(node.state_dir / 'control.sock')!r}, {seconds})"


@contextmanager
def busy_node(folder: Path) -> Iterator[tuple[Node, str]]:
    """Runs a node of one dht worker, one onion worker and a relay; and where its metrics are."""
    options = ("--tcp-port", str(free_port()), "--http", "127.0.0.1:0")
    with running(folder / "state", *options, workers="dht=1,onion=1,relay=1") as node:
        yield node, str(node.status()["node"]["http"])


def _spread(rows: list[float]) -> str:
    ordered = sorted(rows)
    most = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"median {statistics.median(rows):.1f}, 95 % {most:.1f}, most {ordered[-1]:.1f}"


def main() -> int:
    """Runs the measurement and prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--only", choices=("status", "siege", "metrics"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, busy_node(Path(folder)) as (node, place):
        if args.only in (None, "status"):
            answered = status_under_load(node, 2 * args.seconds + 4)
            print(f"worker at {answered.busy_percent:.0f} % of a core:")
            print(f"  toxmesh ops status, ms: {_spread(answered.command_ms)}")
            print(f"    of that processor:    {_spread(answered.command_cpu_ms)}")
            print(f"  the request alone, ms:  {_spread(answered.door_ms)}")
        if args.only in (None, "siege"):
            print(f"{GREEDY} greedy and {STUCK} stuck clients: "
                  f"{cost_of_siege(node, args.seconds):.1f} % of a core")  # fmt: skip
            _print(compare(node, args.seconds, args.rounds, siege(node, args.seconds + 30)))
        if args.only in (None, "metrics"):
            nothing, each = cost_of_scrapes(node, place, args.seconds)
            print(f"a scrape: {each:.2f} ms of CPU (supervisor at rest: {nothing:.1f} ms a second)")
            code = f"scrape({place!r}, {args.seconds + 30})"
            _print(compare(node, args.seconds, args.rounds, code))
    return 0


def _print(compared: Compared) -> None:
    for name, rows in (("without", compared.without), ("with", compared.with_it)):
        rates = ", ".join(f"{row.rate:,.0f}" for row in rows)
        costs = ", ".join(f"{row.cpu_us:.2f}" for row in rows)
        print(f"  {name}: {rates} answers a second; {costs} us of CPU each")
    for figure, text in (("rate", "answers a second"), ("cpu_us", "CPU of an answer")):
        print(f"  lost by {text}: {100 * compared.lost(figure):.1f} % "
              f"(rounds without it differ by {100 * compared.noise(figure):.1f} %)")  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
