"""Boxes that are opened and sealed where they lie are the same boxes."""

import pytest

from core import crypto
from core.crypto import MAC_SIZE, BoxArena, Nonce, SharedKey

KEY = SharedKey(bytes(range(32)))
NONCE = Nonce(bytes(range(24)))
CAPACITY = 1 << 16
ARENAS = [crypto.box_arena, crypto._public_arena]


@pytest.fixture(params=ARENAS, ids=lambda make: make.__name__)
def arena(request: pytest.FixtureRequest) -> BoxArena:
    made: BoxArena = request.param(CAPACITY)
    return made


@pytest.mark.parametrize("size", [0, 1, 9, 80, 1400, 2032])
def test_a_box_is_opened_from_the_middle_and_sealed_in_place(arena: BoxArena, size: int) -> None:
    text = bytes(i & 0xFF for i in range(size))
    box = crypto.seal(KEY, NONCE, text)
    source = arena.source(b"head" + box + b"tail")
    assert arena.open(1000, source, 4, len(box), NONCE, KEY)
    assert arena.memory[1000 : 1000 + size] == text
    arena.seal(1000 - MAC_SIZE, size, NONCE, KEY)
    assert arena.memory[1000 - MAC_SIZE : 1000 + size] == box
    assert not arena.open(2000, source, 3, len(box), NONCE, KEY)
    assert not arena.open(2000, source, 4, len(box), Nonce(bytes(24)), KEY)
    assert not arena.open(2000, source, 4, MAC_SIZE - 1, NONCE, KEY)


def test_nothing_outside_the_memory_or_the_source_is_touched(arena: BoxArena) -> None:
    box = crypto.seal(KEY, NONCE, b"text")
    source = arena.source(box)
    for at, position, size in (
        (0, 1, len(box)), (0, -1, len(box)), (-1, 0, len(box)),
        (CAPACITY - len(box) + 1, 0, len(box)), (0, 0, len(box) + 1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="outside"):
            arena.open(at, source, position, size, NONCE, KEY)
    for at, size in ((-1, 4), (0, -1), (CAPACITY - MAC_SIZE - 3, 4)):
        with pytest.raises(ValueError, match="outside"):
            arena.seal(at, size, NONCE, KEY)


def test_keys_and_nonces_of_a_wrong_size_are_refused() -> None:
    arena = crypto.box_arena(CAPACITY)
    source = arena.source(bytes(20))
    for key, nonce in ((KEY[1:], NONCE), (KEY, NONCE[1:])):
        with pytest.raises(ValueError, match="size"):
            arena.open(0, source, 0, 20, nonce, key)
        with pytest.raises(ValueError, match="size"):
            arena.seal(0, 4, nonce, key)
