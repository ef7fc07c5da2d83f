"""Correctly encrypted but wrong packets straight at the modules."""

import pytest

from tests.fuzz import modules
from tests.fuzz.wrong import Wrong


def _check(count: int, seeds: range) -> None:
    for seed in seeds:
        failures = modules.datagrams(count, seed) + modules.relay(count // 100, seed)
        assert not failures, "\n".join(map(str, failures))


def test_wrong_packets_in_right_boxes_bring_only_the_named_errors() -> None:
    _check(10_000, range(2))


@pytest.mark.slow
def test_a_million_wrong_packets_in_right_boxes_bring_only_the_named_errors() -> None:
    _check(50_000, range(10, 30))


def test_the_fuzzer_gets_behind_the_doors_that_need_an_answer_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Wrong] = []
    pairs: list[modules.Pair] = []

    class Seen(Wrong):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]  # handed through
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
    onion = pairs[0].modules["onion"].snapshot()  # type: ignore[attr-defined]  # not in the protocol
    assert onion["announce_entries"]
    assert onion["group_chats"]
    assert onion["data_entries"]
    assert onion["nodes"] > 4
