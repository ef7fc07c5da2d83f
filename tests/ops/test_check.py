"""`toxmesh ops check`: each way in which a node may fail has its verdict and its sentence."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

import pytest

from core import crypto
from core.crypto import KeyPair, Nonce
from core.endpoint import from_text
from core.entropy import SeededEntropy, SystemEntropy
from core.packets.nodes import NodeInfo
from core.packets.onion import (
    OnionRequest0,
    OnionRequest0Body,
    OnionRequest1Body,
    OnionRequest2Body,
)
from core.packets.relay import ClientHello, HelloBody, RelayHello, RelayPing, RelayPong
from ops import check_onion, check_udp
from ops.check_asker import TRIES, Asker
from ops.check_onion import Hop, near_key, path_packet, paths
from ops.check_outcome import FAILED, GOOD, SILENT, SLOW, Limits, Outcome, judged, plugin, repeat
from tests.cli.commands import Said, call, spawn
from tests.ops.fake_node import beside, fake_node
from tests.ops.schema import differences
from tests.ops.shapes import COMMANDS

TIMEOUT = 0.3
ENTROPY = SystemEntropy()


def check(
    capsys: pytest.CaptureFixture[str], what: str, node: object, *options: object
) -> Said:
    return call(capsys, "ops", "check", what, node, "--timeout", TIMEOUT, *options)


def test_a_good_node_is_good(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_node() as node:
        said = check(capsys, "ping", node.node)
        assert said.code == 0
        assert said.out.startswith("ping      good  ")
        assert "3 of 3 good" in said.out
        said = check(capsys, "udp", node.node)
        assert (said.code, "knows no other node; version 7, 'hello?[2J'" in said.out) == (0, True)
        said = check(capsys, "announce", node.node)
        assert (said.code, "found by somebody else\n" in said.out) == (0, True)


@pytest.mark.parametrize(
    ("what", "faults", "verdict", "words"),
    [
        ("ping", ("drops pings",), GOOD, "2 of 2 good"),
        ("ping", ("no 00",), FAILED, "does not have this public key"),
        ("ping", ("other ping id",), FAILED, "does not have this public key"),
        ("ping", ("no 00", "no f0"), SILENT, "nothing is heard over UDP"),
        ("udp", ("no 00", "no f0"), SILENT, "nothing is heard over UDP"),
        ("udp", ("no 02",), FAILED, "requests for nodes are not"),
        ("udp", ("no f0",), GOOD, "no bootstrap info"),
        ("onion", ("no 00",), FAILED, "does not have this public key"),
        ("onion", (), FAILED, "three times itself"),
        ("announce", ("no 00",), FAILED, "does not have this public key"),
        ("announce", ("no 83",), FAILED, "announce requests are not"),
        ("announce", ("all are stored",), FAILED, "stored already"),
        ("announce", ("no second",), FAILED, "with the ping id, is not answered"),
        ("announce", ("no search",), FAILED, "a search for the announced key is not answered"),
        ("announce", ("not found",), FAILED, "is not found"),
        ("announce", ("found late",), GOOD, "found by somebody else"),
        ("announce", ("other data key",), FAILED, "is not found"),
        ("announce", ("keeps nothing",), FAILED, "does not keep an announcement"),
        ("announce", ("keeps near keys",), GOOD, "shares 12 bits"),
    ],
)
def test_each_fault_has_its_verdict_and_its_sentence(
    capsys: pytest.CaptureFixture[str],
    what: str,
    faults: tuple[str, ...],
    verdict: str,
    words: str,
) -> None:
    with fake_node(*faults) as node:
        count = 2 if what == "ping" else 1
        said = check(capsys, what, node.node, "--json", "--count", count)
    answer = json.loads(said.out)
    assert differences(COMMANDS["check"].answer, answer) == []
    (row,) = answer["checks"]
    assert (row["check"], row["verdict"]) == (what, verdict), row
    assert words in row["text"]
    assert said.code == answer["exit"] == {GOOD: 0, FAILED: 2, SILENT: 4}[verdict]
    assert answer["node"] == str(node.node)


def test_a_port_where_nobody_is_is_known_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_node() as node:
        pass
    asker = Asker(node.place, timeout_s=30.0)  # the test would take so long without it
    outcome = check_udp.ping(asker, node.place, node.keys.public)
    asker.close()
    assert (outcome.verdict, outcome.unreached) == (SILENT, True)
    assert "nobody listens on this UDP port" in outcome.text
    said = check(capsys, "all", node.node)
    assert said.code == 4
    assert said.out.count("not tried, for its pings are not answered") == 3
    assert "nobody listens on TCP port" in said.out


def test_a_silent_node_is_asked_three_times_and_no_more() -> None:
    with fake_node("no 00", "no f0") as node:
        asker = Asker(node.place, 0.15)
        assert asker.exchange(node.place, asker.ping(node.keys.public)) is None
        asker.close()
    assert node.heard == [0] * TRIES


def test_a_late_answer_counts_for_the_try_it_belongs_to() -> None:
    with fake_node("drops pings") as node:
        asker = Asker(node.place, 0.3)
        heard = asker.exchange(node.place, asker.ping(node.keys.public))
        asker.close()
    assert heard is not None
    assert (heard.tries, heard.rtt_s < 0.1) == (2, True)


def test_answers_of_another_with_the_same_id_do_not_count() -> None:
    with fake_node() as node, fake_node() as other:
        asker = Asker(node.place, 0.15)
        make = asker.ping(node.keys.public)
        assert asker.exchange(other.place, make) is None  # another key cannot open it
        assert make().read(b"") is None
        asker.close()


@pytest.mark.parametrize(
    ("version", "text"),
    [
        (1_000_002_018, "tox-bootstrapd 0.2.18"),
        (2_001_020_003, "toxmesh 1.20.3"),
        (3_000_001_001, "tox-node 0.1.1"),
        (7, "version 7"),
        (4_294_967_295, "version 4294967295"),
    ],
)
def test_the_version_says_whose_it_is(version: int, text: str) -> None:
    assert check_udp.software_of(version) == text


@pytest.mark.parametrize(
    ("verdicts", "verdict", "text"),
    [
        ([GOOD], GOOD, "one"),
        ([GOOD, GOOD], GOOD, "2 of 2 good, 1.00 ms to 1.00 ms; one"),
        ([GOOD, FAILED, GOOD], FAILED, "2 of 3 good, 1.00 ms to 1.00 ms; bad"),
        ([FAILED, FAILED], FAILED, "0 of 2 good; bad"),
    ],
)
def test_repeated_checks_have_one_line(verdicts: list[str], verdict: str, text: str) -> None:
    rows = iter(
        Outcome("x", GOOD, "one", 0.001) if one == GOOD else Outcome("x", one, "bad")
        for one in verdicts
    )
    found = repeat(lambda: next(rows), len(verdicts))
    assert (found.verdict, found.text) == (verdict, text)


def test_what_is_not_reached_is_not_asked_again() -> None:
    rows = iter([Outcome("x", SILENT, "nothing", unreached=True)])
    assert repeat(lambda: next(rows), 100).text == "nothing"


# Limits, and monitoring systems


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        (Limits(), GOOD),
        (Limits(5.0, 9.0), GOOD),
        (Limits(4.9, 9.0), SLOW),
        (Limits(None, 4.9), FAILED),
        (Limits(1.0, 2.0), FAILED),
    ],
)
def test_a_round_trip_over_a_limit_is_slow_or_failed(limits: Limits, verdict: str) -> None:
    assert judged(Outcome("ping", GOOD, "text", 0.005), limits).verdict == verdict
    assert judged(Outcome("ping", SILENT, "text"), limits).verdict == SILENT


@pytest.mark.parametrize(
    ("verdicts", "code", "line"),
    [
        ([GOOD], 0, "TOX OK - a good: x?y | a=1.5ms;2;9;0"),
        ([GOOD, SLOW], 1, "TOX WARNING - b slow: x?y; a good: x?y | a=1.5ms;2;9;0 b=1.5ms;2;9;0"),
        ([FAILED, SLOW], 2, "TOX CRITICAL - a failed: x?y; b slow: x?y | a=U;2;9;0 b=1.5ms;2;9;0"),
        ([SILENT], 2, "TOX CRITICAL - a silent: x?y | a=U;2;9;0"),
    ],
)
def test_a_monitoring_plugin_has_one_line_and_the_worst_first(
    verdicts: list[str], code: int, line: str
) -> None:
    rows = [
        Outcome(name, verdict, "x|y", 0.0015 if verdict in (GOOD, SLOW) else None)
        for name, verdict in zip("ab", verdicts, strict=False)
    ]
    assert plugin(rows, Limits(2, 9)) == (code, line)


def test_a_monitoring_system_gets_line_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_node("no f0") as node:
        said = check(capsys, "ping", node.node, "--nagios", "--warning", 2000)
        assert said.code == 0
        assert said.out.startswith("TOX OK - ping good: 3 of 3 good")
        assert said.out.endswith(";2000;;0\n")
        said = check(capsys, "ping", node.node, "--nagios", "-w", 0.0001)
        assert (said.code, said.out.split(" - ")[0]) == (1, "TOX WARNING")
        assert check(capsys, "ping", node.node, "-w", 0.0001).code == 1
        said = check(capsys, "ping", node.node, "-c", 0.0001, "-w", 0.00005)
        assert (said.code, said.out.split()[:2]) == (2, ["ping", "failed"])
    said = check(capsys, "ping", node.node, "--nagios")
    assert (said.code, said.out.split(" - ")[0]) == (2, "TOX CRITICAL")
    said = call(capsys, "ops", "check", "ping", f"no-such-host.invalid:1:{KEY}", "--nagios")
    assert (said.code, said.out.split(" - ")[0]) == (3, "TOX UNKNOWN")
    said = call(capsys, "ops", "check", "ping", node.node, "--nagios", "--json")
    assert (said.code, "choose one" in said.out) == (3, True)


# Paths


def hops(count: int) -> list[Hop]:
    entropy = SeededEntropy(count)
    return [
        Hop(KeyPair.generate(entropy).public, from_text("127.0.0.1", 1000 + i))
        for i in range(count)
    ]


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_the_node_stands_where_it_should_and_nobody_sends_to_himself(
    place: int, count: int
) -> None:
    node, *others = hops(count + 1)
    found = paths(node, others, place)
    assert len(found) == min(3, count)
    for path in found:
        row = [*path.hops, path.asked]
        assert row[place] == node
        assert all(one != other for one, other in pairwise(row))


def test_a_node_alone_is_all_there_is() -> None:
    (node,) = hops(1)
    assert paths(node, [], 0) == [((node, node, node), node)]


def test_each_hop_finds_the_next_and_the_last_the_payload() -> None:
    entropy = SeededEntropy(1)
    pairs = [KeyPair.generate(entropy) for _ in range(4)]
    row = [Hop(pair.public, from_text("192.0.2.1", i + 1)) for i, pair in enumerate(pairs)]
    path = check_onion.Path((row[0], row[1], row[2]), row[3])
    packet = OnionRequest0.decode(path_packet(path, b"\x83payload", entropy))

    def opened(i: int, sender: bytes) -> crypto.SharedKey:
        shared = crypto.precompute(pairs[i].secret, sender)
        assert shared is not None
        return shared

    nonce = packet.nonce
    one = OnionRequest0Body.open(opened(0, packet.sender), nonce, packet.sealed)
    two = OnionRequest1Body.open(opened(1, one.sender), nonce, one.sealed)
    three = OnionRequest2Body.open(opened(2, two.sender), nonce, two.sealed)
    assert [one.next_hop, two.next_hop, three.destination] == [hop.place for hop in row[1:]]
    assert three.payload == b"\x83payload"
    assert len({packet.sender, one.sender, two.sender}) == 3


def test_only_nodes_that_answer_and_that_the_node_can_reach_help() -> None:
    with fake_node() as alive, fake_node("no 00") as dead:
        far = NodeInfo(KeyPair.generate(ENTROPY).public, from_text("192.0.2.1", 1))
        six = NodeInfo(KeyPair.generate(ENTROPY).public, from_text("::1", 1))
        named = (
            NodeInfo(alive.keys.public, alive.place),
            NodeInfo(dead.keys.public, dead.place),
            far,
            six,
        )
        with fake_node(named=named) as node:
            asker = Asker(node.place, TIMEOUT)
            found = check_onion.helpers(asker, Hop(node.keys.public, node.place))
            asker.close()
    assert found == [Hop(alive.keys.public, alive.place)]


def test_near_keys_are_near() -> None:
    key = KeyPair.generate(ENTROPY).public
    pair = near_key(ENTROPY, key, bits=6)
    assert pair is not None
    assert pair.public[0] >> 2 == key[0] >> 2


# The relay


class FakeRelay:
    """A TCP listener that treats each connection as a test wants."""

    def __init__(self, treat: Callable[["FakeRelay", socket.socket], None]) -> None:
        self.keys = KeyPair.generate(ENTROPY)
        self.treat = treat
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]

    def serve(self) -> None:
        try:
            peer, _ = self.listener.accept()
        except OSError:
            return
        with peer:
            peer.settimeout(5)
            self.treat(self, peer)

    def greet(self, peer: socket.socket, key: KeyPair | None = None) -> "FakeSession":
        """Answers a client's hello, perhaps with another key."""
        hello = ClientHello.decode(peer.recv(128, socket.MSG_WAITALL))
        shared = crypto.precompute((key or self.keys).secret, hello.sender)
        assert shared is not None
        temporary = KeyPair.generate(ENTROPY)
        nonce, base = Nonce(ENTROPY.bytes(24)), Nonce(ENTROPY.bytes(24))
        sealed = HelloBody(temporary.public, base).seal(shared, nonce)
        peer.sendall(RelayHello(nonce, sealed).encode())
        if key is not None:
            return FakeSession(shared, base, base)
        theirs = HelloBody.open(shared, hello.nonce, hello.sealed)
        session = crypto.precompute(temporary.secret, theirs.temporary_key)
        assert session is not None
        return FakeSession(session, base, theirs.base_nonce)


class FakeSession:
    """The relay's half of a connection."""

    def __init__(self, shared: crypto.SharedKey, send: Nonce, receive: Nonce) -> None:
        self.shared, self.send, self.receive = shared, send, receive

    def frame(self, plain: bytes) -> bytes:
        sealed = crypto.seal(self.shared, self.send, plain)
        self.send = crypto.increment(self.send)
        return len(sealed).to_bytes(2, "big") + sealed

    def read(self, peer: socket.socket) -> bytes:
        size = int.from_bytes(peer.recv(2, socket.MSG_WAITALL), "big")
        plain = crypto.open_sealed(self.shared, self.receive, peer.recv(size, socket.MSG_WAITALL))
        assert plain is not None
        self.receive = crypto.increment(self.receive)
        return plain


def until_it_closes(peer: socket.socket) -> None:
    """Reads to the end: what is closed with bytes unread takes sent bytes back, too (RST)."""
    with suppress(ConnectionError):
        while peer.recv(4096):
            pass


def good(relay: FakeRelay, peer: socket.socket) -> None:
    """Asks for a pong itself first, and names no link: a relay may."""
    session = relay.greet(peer)
    peer.sendall(session.frame(RelayPing(5).encode()))
    ping = RelayPing.decode(session.read(peer))
    assert session.read(peer) == RelayPong(5).encode()
    peer.sendall(session.frame(RelayPong(ping.ping_id).encode()))
    until_it_closes(peer)


def closes(relay: FakeRelay, peer: socket.socket) -> None:
    peer.recv(128, socket.MSG_WAITALL)


def keeps_quiet(relay: FakeRelay, peer: socket.socket) -> None:
    peer.recv(128, socket.MSG_WAITALL)
    until_it_closes(peer)


def has_another_key(relay: FakeRelay, peer: socket.socket) -> None:
    relay.greet(peer, KeyPair.generate(ENTROPY))


def breaks_a_frame(relay: FakeRelay, peer: socket.socket) -> None:
    session = relay.greet(peer)
    frame = session.frame(RelayPong(1).encode())
    peer.sendall(frame[:-1] + bytes([frame[-1] ^ 1]))
    until_it_closes(peer)


def sends_a_frame_too_long(relay: FakeRelay, peer: socket.socket) -> None:
    relay.greet(peer)
    peer.sendall(b"\xff\xff")
    until_it_closes(peer)


def never_pongs(relay: FakeRelay, peer: socket.socket) -> None:
    session = relay.greet(peer)
    for _ in range(64):
        peer.sendall(session.frame(RelayPong(1).encode()))
    until_it_closes(peer)


@contextmanager
def fake_relay(
    treat: Callable[[FakeRelay, socket.socket], None],
) -> Iterator[FakeRelay]:
    relay = FakeRelay(treat)
    with beside(relay.serve):
        yield relay
    relay.listener.close()


@pytest.mark.parametrize(
    ("treat", "verdict", "words"),
    [
        (good, GOOD, "then a ping in a frame"),
        (closes, FAILED, "closes the connection"),
        (keeps_quiet, FAILED, "does not answer within 0.3 s"),
        (has_another_key, FAILED, "not sealed with this public key"),
        (breaks_a_frame, FAILED, "a frame that does not open"),
        (sends_a_frame_too_long, FAILED, "a frame of 65535 bytes"),
        (never_pongs, FAILED, "64 frames and no pong"),
    ],
)
def test_each_fault_of_a_relay_has_its_sentence(
    capsys: pytest.CaptureFixture[str],
    treat: Callable[[FakeRelay, socket.socket], None],
    verdict: str,
    words: str,
) -> None:
    with fake_relay(treat) as relay:
        node = f"127.0.0.1:1:{relay.keys.public.hex()}"
        patience = TIMEOUT if treat is keeps_quiet else 10  # the machine may be busy
        where = ("--tcp-port", relay.port, "--timeout", patience)
        said = check(capsys, "tcp", node, *where, "--json")
    (row,) = json.loads(said.out)["checks"]
    assert row["verdict"] == verdict, row
    assert words in row["text"]
    assert said.code == (0 if verdict == GOOD else 2)
    assert row["port"] == relay.port


def test_some_good_and_some_not_is_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_node() as node:
        said = check(capsys, "all", node.node)
    assert said.code == 1
    verdicts = {line.split()[0]: line.split()[1] for line in said.out.splitlines()}
    assert verdicts == {
        "ping": GOOD, "udp": GOOD, "tcp": SILENT, "onion": FAILED, "announce": GOOD,
    }  # fmt: skip


# The command line

KEY = "AB" * 31 + "0B"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("ping", "127.0.0.1:1"), 3, "not HOST:PORT:PUBLICKEY"),
        (("ping", f"::1:1:{KEY}"), 3, "in brackets"),
        (("ping", f"127.0.0.1:0:{KEY}"), 3, "1-65535"),
        (("ping", "127.0.0.1:1:" + "00" * 32), 3, "low order"),
        (("everything", f"127.0.0.1:1:{KEY}"), 3, "everything"),
        (("ping", f"127.0.0.1:1:{KEY}", "--count", "0"), 3, "count"),
        (("ping", f"127.0.0.1:1:{KEY}", "--timeout", "nan"), 3, "nan"),
        (("ping", f"no-such-host.invalid:1:{KEY}"), 4, "has no address"),
        (("ping", f"127.0.0.1:1:{KEY}", "-6"), 4, "has no IPv6 address"),
    ],
)
def test_what_cannot_be_asked_is_told(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str
) -> None:
    said = call(capsys, "ops", "check", *arguments)
    assert said.code == code
    assert words in said.err


def test_ipv6_and_names_are_places_too(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_node() as node:
        named = f"localhost:{node.port}:{node.keys.public.hex()}"
        assert check(capsys, "ping", named, "-4").code == 0
    said = check(capsys, "ping", f"[::1]:1:{KEY}", "--json")
    assert json.loads(said.out)["address"] == "[::1]:1"
    assert said.code == 4
    assert "nobody listens on this UDP port" in said.out


def test_help_starts_without_packets_and_cryptography() -> None:
    said = spawn("ops", "check", "--help", options=("-X", "importtime"))
    loaded = {line.rsplit("|")[-1].strip() for line in said.err.splitlines() if "|" in line}
    assert said.code == 0
    assert not loaded & {"core", "core.packets", "core.wire", "nacl", "zmq", "pydantic", "psutil"}
