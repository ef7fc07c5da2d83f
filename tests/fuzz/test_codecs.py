"""Mutated packets of every kind through the codecs, and that the fuzzer would notice."""

import random

import pytest

from tests.fuzz import codecs
from tests.fuzz.mutate import mutate


def _check(count: int, seed: int) -> None:
    total = good = 0
    for done, valid, failures in codecs.run(count, seed, processes=2):
        assert not failures, "\n".join(map(str, failures))
        total, good = done, valid
    assert total == count
    assert 0.05 * count < good < 0.8 * count  # both ways out are really taken


def test_no_mutated_packet_brings_anything_but_wire_error() -> None:
    _check(20_000, seed=1)


@pytest.mark.slow
def test_half_a_million_mutated_packets_bring_nothing_but_wire_error() -> None:
    _check(500_000, seed=2)


def test_a_chunk_is_the_same_again_under_its_seed() -> None:
    assert codecs.chunk("7:3", 2_000) == codecs.chunk("7:3", 2_000)
    chance, again = random.Random(5), random.Random(5)
    assert [mutate(b"packet" * 9, chance) for _ in range(99)] == [
        mutate(b"packet" * 9, again) for _ in range(99)
    ]


def test_a_codec_that_fails_is_reported_with_seed_and_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(cls: type, data: bytes) -> bool:
        if len(data) == 82:
            raise IndexError("out of range")
        return False

    monkeypatch.setattr(codecs, "_check", broken)
    _, valid, failures = codecs.chunk("9:0", 2_000)
    assert failures
    assert failures[0].seed == "9:0"
    assert len(failures[0].data) == 82
    assert "IndexError" in str(failures[0])
    assert valid < 40  # the frames between processes that stayed whole
