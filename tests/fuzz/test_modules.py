"""Correctly encrypted but wrong packets straight at the modules."""

import contextlib
from collections.abc import Sequence

import pytest

from core import crypto
from core.crypto import KeyPair
from core.endpoint import Endpoint, udp4
from core.entropy import SeededEntropy
from core.module import ProtocolViolation
from core.onion import OnionModule
from core.packets import ROUTES
from core.wire import WireError
from tests.fuzz import modules
from tests.fuzz.wrong import Wrong
from toxmesh.bench import loads
from toxmesh.bench.clients import Client, Clients


def _check(count: int, seeds: range) -> None:
    for seed in seeds:
        failures = modules.datagrams(count, seed) + modules.relay(count // 100, seed)
        assert not failures, "\n".join(map(str, failures))


def test_wrong_packets_in_right_boxes_bring_only_the_named_errors() -> None:
    _check(10_000, range(2))


@pytest.mark.slow
def test_a_million_wrong_packets_in_right_boxes_bring_only_the_named_errors() -> None:
    _check(50_000, range(10, 30))


def test_noise_of_any_kind_and_length_is_never_answered() -> None:
    assert modules.garbage((*range(0, 400, 7), 512, 1024, 1400, 2047, 2048)) == []


@pytest.mark.slow
def test_noise_of_every_kind_and_every_length_is_never_answered() -> None:
    assert modules.garbage(range(2049)) == []


def _requests(pair: modules.Pair) -> dict[str, bytes]:
    """Good requests of a client, by the name of their kind."""
    client = KeyPair.generate(SeededEntropy("client"))
    shared = crypto.precompute(client.secret, pair.keys.public)
    assert shared is not None
    made = Clients(pair.keys.public, b"")
    caller = Client(client.public, shared)
    home = udp4(bytes((127, 0, 0, 1)), 40_000)
    simple = (loads.Ping, loads.Nodes, loads.Hop0, loads.Hop1, loads.Hop2, loads.Search)
    return {load.__name__: load(made).request(1, caller, home) for load in simple}


def test_a_good_request_is_answered_and_no_shorter_or_longer_one() -> None:
    pair = modules.Pair("whole")
    home = udp4(bytes((127, 0, 0, 1)), 40_000)
    pair.turn(1000.0)
    for name, packet in _requests(pair).items():
        route = ROUTES[packet[0]]
        module = pair.modules[route.role]
        tails = [packet + bytes(size) for size in (1, 16, 512)]
        for wrong in (*(packet[:size] for size in range(len(packet))), *tails):
            with contextlib.suppress(WireError, ProtocolViolation):
                module.handle_packet(wrong, home, 1000.0)
            assert not pair.outs[route.role].sent, (name, len(packet), len(wrong))
        module.handle_packet(packet, home, 1000.0)
        assert len(pair.outs[route.role].sent) == 1, name
        pair.outs[route.role].sent.clear()


def test_the_fuzzer_gets_behind_the_doors_that_need_an_answer_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Wrong] = []
    pairs: list[modules.Pair] = []

    class Seen(Wrong):
        def __init__(self, node: bytes, seed: int | str, homes: Sequence[Endpoint]) -> None:
            super().__init__(node, seed, homes)
            made.append(self)

    class Kept(modules.Pair):
        def __init__(self, seed: int | str) -> None:
            super().__init__(seed)
            pairs.append(self)

    monkeypatch.setattr(modules, "Wrong", Seen)
    monkeypatch.setattr(modules, "Pair", Kept)
    assert modules.datagrams(10_000, 3) == []
    assert made[0].ping_ids
    assert made[0].tokens
    assert {"return 140", "return 141", "return 142", "sendback"} <= set(made[0].learned)
    module = pairs[0].modules["onion"]
    assert isinstance(module, OnionModule)
    onion = module.snapshot()
    assert onion["announce_entries"]
    assert onion["group_chats"]
    assert onion["data_entries"]
    assert onion["nodes"] > 4
