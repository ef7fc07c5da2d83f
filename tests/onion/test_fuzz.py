"""Correctly encrypted nonsense: it is refused by name or answered, and never breaks anything."""

from hypothesis import given, settings
from hypothesis import strategies as st

from core.crypto import seal
from core.endpoint import pack_compact, pack_ip_port
from core.messages import NodeRow
from tests.onion.client import Client, box
from tests.onion.node import START, Node, address

CLIENT = Client("fuzz")
KNOWN = [NodeRow(bytes([i]) * 32, address(i), b"", False, True) for i in range(1, 4)]
NODE = Node("n", address(0), 2, known=KNOWN)
KEY = NODE.keys.public
SOURCE = address(99)

addresses = st.one_of(
    st.binary(min_size=19, max_size=19),
    st.sampled_from([pack_ip_port(SOURCE), pack_ip_port(address(7))]),
)
texts = st.one_of(st.binary(max_size=1300), st.builds(lambda a, b: a + b, addresses, st.binary()))


def boxed(text: bytes) -> tuple[bytes, bytes]:
    """Returns a nonce and the text boxed for the node."""
    nonce = CLIENT.nonce()
    return nonce, box(CLIENT.dht, KEY, nonce, text)


@settings(max_examples=400)
@given(st.sampled_from([(0x80, 0), (0x81, 59), (0x82, 118), (0x83, 177), (0x87, 177)]), texts)
def test_onion_kinds_stand_any_text_inside_their_box(kind: tuple[int, int], text: bytes) -> None:
    nonce, sealed = boxed(text)
    packet = bytes((kind[0],)) + nonce + CLIENT.dht.public + sealed + bytes(kind[1])
    for target, sent in NODE.handle(packet, SOURCE, START):
        assert target[2:4] != b"\x00\x00"
        assert len(sent) <= 1400


@settings(max_examples=300)
@given(st.binary(min_size=104, max_size=104), st.binary(max_size=136), st.booleans())
def test_announce_requests_stand_any_fields(fields: bytes, group: bytes, grouped: bool) -> None:
    nonce, sealed = boxed(fields + (group if grouped else b""))
    packet = (b"\x87" if grouped else b"\x83") + nonce + CLIENT.dht.public + sealed + bytes(177)
    sent = NODE.handle(packet, SOURCE, START)
    assert len(sent) == 1 or grouped
    assert all(target == SOURCE and len(answer) <= 178 + 703 for target, answer in sent)


@settings(max_examples=300)
@given(st.sampled_from([0x93, 0x95, 0x97]), st.binary(max_size=700), st.booleans())
def test_data_announcements_stand_any_body(kind: int, body: bytes, forwarded: bool) -> None:
    nonce, sealed = boxed(body)
    packet = bytes((kind,)) + CLIENT.dht.public + nonce + sealed
    if forwarded:
        packet = b"\x91\x28" + bytes(40) + packet
    for target, answer in NODE.handle(packet, SOURCE, START):
        assert target == SOURCE
        assert len(answer) <= 700


@settings(max_examples=300)
@given(st.binary(max_size=600))
def test_a_store_request_stands_any_text_by_the_owner_of_its_key(text: bytes) -> None:
    nonce = CLIENT.nonce()
    body = CLIENT.data.public + nonce + box(CLIENT.data, KEY, nonce, text) + b"pingping"
    outer_nonce, sealed = boxed(body)
    packet = b"\x97" + CLIENT.dht.public + outer_nonce + sealed
    assert NODE.handle(packet, SOURCE, START) == []  # nobody guesses a token


@settings(max_examples=300)
@given(st.binary(max_size=300), st.sampled_from([0x90, 0x91, 0x92]), st.booleans())
def test_forwarding_stands_any_bytes_and_sends_only_to_known_nodes(
    data: bytes, kind: int, known: bool
) -> None:
    packet = bytes((kind,)) + (bytes([1]) * 32 if known else b"") + data
    for target, sent in NODE.handle(packet, SOURCE, START):
        assert target in [row.endpoint4 for row in KNOWN]
        assert sent[0] == 0x91


@settings(max_examples=300)
@given(st.sampled_from([0x8C, 0x8D, 0x8E]), st.binary(min_size=137, max_size=137))
def test_returns_stand_any_text_under_our_own_key(kind: int, text: bytes) -> None:
    size = {0x8C: 137, 0x8D: 78, 0x8E: 19}[kind]
    key = NODE.shards[0].hops.returns.current(START)
    packet = bytes((kind,)) + bytes(24) + seal(key, bytes(24), text[:size]) + b"\x84answer"
    assert len(NODE.handle(packet, SOURCE, START)) <= 1


@settings(max_examples=300)
@given(st.binary(max_size=1600), st.booleans())
def test_relay_packets_stand_any_bytes(data: bytes, private: bool) -> None:
    NODE.relay_hops.relay_onion_request(b"\x08" + data, 1, START, private)
    NODE.relay_forwarding.relay_forward_request(b"\x0a" + data, 1, START, private)
    near = pack_compact(address(5)) + data
    NODE.relay_forwarding.relay_forward_request(b"\x0a" + near, 1, START, private)
    for target, sent in NODE.settle(START):
        assert target[2:4] != b"\x00\x00"
        assert sent[0] in (0x81, 0x91)
