"""The four tests of every declared packet."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import crypto
from core.net_crypto import requests
from core.packets import ALL, ROUTES, UDP_PACKETS
from core.packets.net_crypto import MAX_DATA_SIZE
from core.wire import Record, WireError
from tests.packets import samples, vectors

every_packet = pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
VECTORS = vectors.load()
NEVER_SENT = {
    "ForwardRequest",
    "ForwardReply",
    "DataRetrieveRequest",
    "DataStoreRequest",
    "RelayForwardRequest",
}
"""What nothing stock sends: ours, which tox-bootstrapd accepted, with its answer."""


class Drawn:
    """Choices that Hypothesis makes, and shrinks when a test fails."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def number(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))

    def bytes(self, low: int, high: int) -> bytes:
        return self._data.draw(st.binary(min_size=low, max_size=high))


@every_packet
@given(data=st.data())
def test_what_is_encoded_decodes_to_the_same(cls: type[Record], data: st.DataObject) -> None:
    packet = samples.sample(cls, Drawn(data))
    encoded = packet.encode()
    assert cls.MIN_SIZE <= len(encoded) <= cls.MAX_SIZE
    assert cls.decode(encoded) == packet


def reencodes(cls: type[Record], data: bytes) -> bool:
    """Tells whether the bytes are a packet; fails if they are one that encodes to other bytes."""
    try:
        packet = cls.decode(data)
    except WireError:
        return False
    assert packet.encode() == data
    return True


@every_packet
@given(noise=st.binary(max_size=400), seed=st.integers(0, 1 << 32), data=st.data())
def test_any_bytes_are_refused_or_encode_to_themselves(
    cls: type[Record], noise: bytes, seed: int, data: st.DataObject
) -> None:
    reencodes(cls, noise)
    valid = samples.sample(cls, samples.Dice(seed)).encode()
    cut = data.draw(st.integers(0, len(valid)))
    reencodes(cls, valid[:cut] + noise)
    reencodes(cls, valid[:cut] + valid[cut + 1 :])
    place = data.draw(st.integers(0, len(valid) - 1))
    flipped = bytearray(valid)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    reencodes(cls, bytes(flipped))


@every_packet
def test_nothing_is_never_a_packet(cls: type[Record]) -> None:
    with pytest.raises(WireError) as caught:
        cls.decode(b"")
    assert caught.value.packet == cls.__name__


@every_packet
def test_the_reference_made_a_vector_of_it(cls: type[Record]) -> None:
    assert any(
        cls.__name__ in vectors.names_in(vector)
        for vector in VECTORS
        if is_of_the_reference(vector) or vector["packet"] in NEVER_SENT
    ), f"no vector of {cls.__name__} in tests/vectors"


def is_of_the_reference(vector: dict[str, Any]) -> bool:
    """Tells whether the reference made the bytes, and not we."""
    return str(vector["made_by"]).startswith(("libtoxcore", "tox-bootstrapd", "c-toxcore"))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_vector_decodes_to_its_fields_and_encodes_to_its_bytes(vector: dict[str, Any]) -> None:
    check(vector)
    if not is_of_the_reference(vector) and vector["packet"] in NEVER_SENT:
        check(vector["answer"])


def check(vector: dict[str, Any]) -> None:
    """Compares one vector, and what is sealed in it, with our codec."""
    packet: Any = vectors.CLASSES[vector["packet"]].decode(bytes.fromhex(vector["hex"]))
    assert vectors.shown(packet) == vector["fields"]
    assert packet.encode().hex() == vector["hex"]
    if "body" not in vector:
        return
    keys, body = vector["keys"], vector["body"]
    secret = crypto.SecretKey(bytes.fromhex(keys["secret"]))
    shared = crypto.precompute(secret, bytes.fromhex(keys["public"]))
    assert shared is not None
    plain = crypto.open_sealed(shared, bytes.fromhex(keys["nonce"]), packet.sealed)
    assert plain is not None
    assert plain.hex() == body["hex"]
    if "packet" in body:
        check(body)


@pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS if vector["packet"] == "MissingPackets"],
    ids=lambda vector: vector["name"],
)
def test_a_request_names_what_the_reference_had_lost(vector: dict[str, Any]) -> None:
    """What was lost is known from the capture, and not from our reading of the request."""
    start, missing = vector["start"], vector["missing"]
    packet = bytes.fromhex(vector["hex"])
    named, cursor = [], start - 1
    for steps, is_missing in requests.decode(packet[1:]):
        cursor += steps
        if is_missing:
            named.append(cursor)
    assert named == missing
    end = cursor + 1  # so much the reference knew to be under way
    held = set(range(start, end)) - set(missing)
    assert requests.encode(start, end, held, most=MAX_DATA_SIZE) == packet


def test_every_kind_has_one_first_byte_and_a_route_that_fits() -> None:
    for kind, classes in UDP_PACKETS.items():
        assert all(cls.kind == kind for cls in classes)
        assert all(cls.role == classes[0].role for cls in classes)
        assert (kind in ROUTES) == bool(classes[0].role)
    for route in ROUTES.values():
        assert route.slot_byte is None or route.slot_byte < 41


def test_samples_cover_every_kind() -> None:
    source = random.Random(1)
    for kind, classes in UDP_PACKETS.items():
        supply = samples.packets_of(kind, source)
        for cls in classes * 5:
            assert cls.decode(next(supply)).kind == kind


def test_encoding_refuses_what_does_not_fit() -> None:
    for cls in ALL:
        good = samples.sample(cls, samples.Dice(3))
        for field in cls.FIELDS:
            if field.value is not None or field.counts or not hasattr(field.rule, "format"):
                continue
            values = dict(good.values())
            values[field.name] = b"" if isinstance(values[field.name], bytes) else -1
            if values[field.name] == -1 and not getattr(field.rule, "checked", True):
                continue  # struct itself refuses
            with pytest.raises(ValueError, match=field.name):
                cls(**values).encode()
