"""The crypto door: vectors of others, the direct and the public way to libsodium, the key cache."""

import os
import pickle
import weakref

import pytest

from core import crypto
from core.crypto import KeyMiss, KeyPair, Nonce, SecretKey, SharedKey, SharedKeys
from core.entropy import SeededEntropy, SystemEntropy

# "Cryptography in NaCl", section 10: the box of its worked example.
NACL_KEY = SharedKey(
    bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
)
NACL_NONCE = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
NACL_TEXT = bytes.fromhex(
    "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c6129"
    "6cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde"
    "048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705"
)
NACL_BOX = bytes.fromhex(
    "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186a"
    "c0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae"
    "90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74"
    "e355a5"
)


def test_a_box_is_that_of_the_nacl_paper() -> None:
    assert crypto.seal(NACL_KEY, NACL_NONCE, NACL_TEXT) == NACL_BOX
    assert crypto.open_sealed(NACL_KEY, NACL_NONCE, NACL_BOX) == NACL_TEXT


def test_the_public_half_is_that_of_rfc_7748() -> None:
    # RFC 7748, section 5.2: the first iteration of the function on the number nine.
    nine = b"\x09" + bytes(31)
    expected = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert KeyPair.from_secret(nine).public.hex() == expected


def test_both_ways_to_libsodium_give_the_same_bytes() -> None:
    for size in (0, 1, 15, 16, 17, 1000, 2048):
        text = os.urandom(size)
        sealed = crypto._seal_public(NACL_KEY, NACL_NONCE, text)
        assert crypto.seal(NACL_KEY, NACL_NONCE, text) == sealed
        assert crypto._open_public(NACL_KEY, NACL_NONCE, sealed) == text
        assert crypto.open_sealed(NACL_KEY, NACL_NONCE, sealed) == text


@pytest.mark.parametrize("opener", [crypto.open_sealed, crypto._open_public])
def test_a_changed_or_short_box_does_not_open(opener: object) -> None:
    assert callable(opener)
    sealed = crypto.seal(NACL_KEY, NACL_NONCE, b"text")
    for position in range(len(sealed)):
        broken = bytearray(sealed)
        broken[position] ^= 1
        assert opener(NACL_KEY, NACL_NONCE, bytes(broken)) is None
    for size in range(len(sealed)):
        assert opener(NACL_KEY, NACL_NONCE, sealed[:size]) is None


def test_a_box_opens_with_the_key_of_the_other_side() -> None:
    entropy = SeededEntropy(1)
    alice, bob = KeyPair.generate(entropy), KeyPair.generate(entropy)
    ours = crypto.precompute(alice.secret, bob.public)
    assert ours is not None
    assert ours == crypto.precompute(bob.secret, alice.public)


@pytest.mark.parametrize("point", sorted(crypto.LOW_ORDER))
def test_a_key_of_low_order_has_no_combined_key(point: bytes) -> None:
    secret = KeyPair.generate(SeededEntropy(2)).secret
    assert crypto.precompute(secret, point) is None
    assert crypto._agree_public(secret.reveal(), point) is None
    keys = SharedKeys(secret)
    keys.deferring = True
    assert keys.get(point) is None
    assert keys.sender(point) is None  # at once: there is nothing to compute
    assert (keys.misses, len(keys)) == (0, 0)


def test_the_neighbours_of_low_order_keys_are_keys_like_others() -> None:
    secret = KeyPair.generate(SeededEntropy(2)).secret
    around = set()
    for point in crypto.LOW_ORDER:
        number = int.from_bytes(point, "little")
        for other in (number + 1, number - 1, number ^ 1 << 254):
            around.add((other % 2**256).to_bytes(32, "little"))
    assert len(around - crypto.LOW_ORDER) > 20
    for key in around - crypto.LOW_ORDER:
        assert crypto.precompute(secret, key) is not None, key.hex()


def test_both_ways_to_libsodium_agree_on_keys() -> None:
    entropy = SeededEntropy(4)
    for _ in range(20):
        secret, other = entropy.bytes(32), entropy.bytes(32)
        public = crypto._public_half_public(other)
        assert KeyPair.from_secret(other).public == public
        assert crypto.precompute(SecretKey(secret), public) == crypto._agree_public(secret, public)
    for size in (0, 31, 33):
        assert crypto.precompute(SecretKey(secret), bytes(range(1, 1 + size))) is None
        assert crypto._agree_public(secret, bytes(range(1, 1 + size))) is None


def test_a_way_to_libsodium_that_gives_other_bytes_is_not_taken() -> None:
    bindings = crypto._BINDINGS
    assert crypto._same_bytes(bindings, bindings)
    key = SharedKey(bytes(32))
    wrong = (
        bindings._replace(seal=lambda shared, nonce, plain: bytes(16) + plain),
        bindings._replace(open=lambda shared, nonce, sealed: sealed[16:]),
        bindings._replace(agree=lambda secret, public: key),
        bindings._replace(agree=lambda secret, public: None),
        bindings._replace(public_half=lambda secret: crypto.PublicKey(secret)),
    )
    for backend in wrong:
        assert not crypto._same_bytes(backend, bindings)


def test_a_nonce_is_a_big_endian_number_that_wraps() -> None:
    assert crypto.increment(Nonce(bytes(24))) == bytes(23) + b"\x01"
    assert crypto.increment(Nonce(bytes(22) + b"\x00\xff")) == bytes(22) + b"\x01\x00"
    assert crypto.increment(Nonce(b"\xff" * 24)) == bytes(24)
    assert crypto.increment(Nonce(bytes(24)), 65536) == bytes(21) + b"\x01\x00\x00"


def test_the_hmac_tag_is_the_first_half_of_rfc_4231() -> None:
    # RFC 4231, test case 2 (HMAC-SHA-512), first 32 bytes; crypto_auth takes 32-byte keys alike.
    expected = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
    assert crypto.tag(b"Jefe", b"what do ya want for nothing?").hex() == expected


def test_derived_keys_differ_by_purpose_and_epoch() -> None:
    cases = [(purpose, epoch) for purpose in ("a", "b") for epoch in (0, 1)]
    assert len({crypto.derive_key(b"m" * 32, *case) for case in cases}) == 4
    assert crypto.derive_key(b"m" * 32, "a", 1) == crypto.derive_key(b"m" * 32, "a", 1)


def test_a_secret_key_neither_prints_nor_pickles() -> None:
    pair = KeyPair.from_secret(bytes(range(32)))
    assert bytes(range(32)).hex() not in repr(pair)
    assert "hidden" in repr(pair.secret)
    with pytest.raises(TypeError):
        pickle.dumps(pair.secret)
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        SecretKey(bytes(31))


def test_the_key_cache_is_bounded_and_keeps_what_is_used() -> None:
    entropy = SeededEntropy(3)
    cache = SharedKeys(KeyPair.generate(entropy).secret, capacity=10)
    favourite = KeyPair.generate(entropy).public
    cache.get(favourite)
    for _ in range(40):
        cache.get(KeyPair.generate(entropy).public)
        cache.get(favourite)
        assert len(cache) <= 10
    assert cache.misses == 41
    assert cache.known(favourite) == cache.get(favourite)


def test_a_key_stands_in_one_generation_alone() -> None:
    entropy = SeededEntropy(3)
    cache = SharedKeys(KeyPair.generate(entropy).secret, capacity=10)
    publics = [KeyPair.generate(entropy).public for _ in range(6)]
    for public in publics:
        cache.get(public)  # the sixth makes the first five old
    assert len(cache) == 6
    for public in publics:
        cache.get(public)
    assert len(cache._young.keys() & cache._old.keys()) == 0
    assert (len(cache), cache.misses) == (6, 6)


def test_a_sender_s_new_key_waits_while_deferring_and_is_then_computed() -> None:
    entropy = SeededEntropy(5)
    cache = SharedKeys(KeyPair.generate(entropy).secret, capacity=4)
    public = KeyPair.generate(entropy).public
    cache.deferring = True
    with pytest.raises(KeyMiss):
        cache.sender(public)
    assert (cache.misses, len(cache)) == (0, 0)
    cache.deferring = False
    shared = cache.sender(public)
    assert shared is not None
    cache.deferring = True
    for _ in range(3):
        cache.get(KeyPair.generate(entropy).public)  # our own requests compute all the same
    assert cache.sender(public) == shared  # known, though of the older generation
    assert cache.misses == 4


def test_the_keys_of_those_who_wait_are_computed_together_and_each_once() -> None:
    entropy = SeededEntropy(6)
    secret = KeyPair.generate(entropy).secret
    cache = SharedKeys(secret, capacity=8)
    known, banned, *new = (KeyPair.generate(entropy).public for _ in range(8))
    cache.get(known)
    cache.banned = {banned}
    low = min(crypto.LOW_ORDER)
    assert cache.compute([new[0], known, new[1], banned, new[0], low, *new[2:]]) == 6
    assert (cache.misses, cache.hits) == (7, 0)
    assert cache.known(banned) is None
    assert cache.known(low) is None
    assert len(cache) == 7  # the older ones are in the other generation
    for public in (known, *new):
        assert cache.known(public) == crypto.precompute(secret, public)
    assert cache.compute(new) == 0


def test_a_source_of_chance_that_nobody_has_any_more_is_gone() -> None:
    source = SystemEntropy()
    source.bytes(8)  # it keeps 8 KiB at hand now
    left = weakref.ref(source)
    del source
    assert left() is None


def test_entropy_hands_out_each_byte_once_and_never_twice_after_a_fork() -> None:
    source = SystemEntropy()
    seen = {source.bytes(24) for _ in range(5000)}
    assert len(seen) == 5000
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, source.bytes(24))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 24) != source.bytes(24)
    assert len(source.bytes(20_000)) == 20_000
    assert {source.below(3) for _ in range(200)} == {0, 1, 2}
