"""The layout vocabulary: what a declaration means, and what it refuses."""

from typing import Annotated

import pytest

from core import crypto
from core.crypto import NO_KEY, Nonce, PublicKey, SharedKey
from core.endpoint import from_text
from core.packets import NodeInfo, pack_nodes, unpack_nodes
from core.packets.announce import NO_RETURN, AnnounceRequest, GroupAnnounce
from core.packets.dht import (
    DhtKeyPacket,
    NodesResponseBody,
    PingRequest,
    PingRequestBody,
    PingResponseBody,
)
from core.packets.forwarding import ForwardReply
from core.packets.onion import OnionRequest2Body
from core.packets.relay import RouteResponse
from core.wire import U8, U16, Record, Rest, Run, WireError, constant, count_of

KEY = PublicKey(bytes(range(32)))
NONCE = Nonce(bytes(24))
SHARED = SharedKey(bytes(range(32)))
UDP_NODE = NodeInfo(KEY, from_text("192.0.2.1", 33445))
TCP_NODE = NodeInfo(KEY, from_text("2001:db8::1", 443), tcp=True)


class Letter(Record):
    """A layout whose names the compiler's own source would use too."""

    version: U8 = constant(7)
    offset: U16
    size: U8 = count_of("data")
    data: Annotated[bytes, Run(0, 3)]
    cls: Annotated[bytes, Rest(0, 4)]
    end: U16


def refused(cls: type[Record], data: bytes) -> str:
    """Returns the rule that these bytes break."""
    with pytest.raises(WireError) as caught:
        cls.decode(data)
    return caught.value.rule


def test_an_error_names_packet_rule_and_both_numbers() -> None:
    with pytest.raises(WireError, match="PingRequest: has 81 bytes, not 82"):
        PingRequest.decode(bytes(81))
    assert refused(PingRequest, b"\x01" + bytes(81)) == "first byte 1 is not 0"
    assert refused(PingRequestBody, b"\x01" + bytes(8)) == "type 1 is not 0"
    assert refused(RouteResponse, b"\x01\x0f" + bytes(32)) == "link 15 is not u8, 16-255 or 0"


def test_what_must_not_be_encoded_is_a_value_error_with_both_numbers() -> None:
    with pytest.raises(ValueError, match="sender has 31 bytes, not 32"):
        PingRequest(PublicKey(bytes(31)), NONCE, bytes(25)).encode()
    with pytest.raises(ValueError, match="5 nodes, more than 4"):
        NodesResponseBody((UDP_NODE,) * 5, bytes(8)).encode()
    with pytest.raises(ValueError, match="has 32 bytes, not 33-254"):
        ForwardReply(bytes(32), b"").encode()


def test_fields_may_have_any_names() -> None:
    letter = Letter(513, b"abc", b"rest", 3)
    assert letter.encode() == b"\x07\x02\x01\x03abcrest\x00\x03"
    assert Letter.decode(letter.encode()) == letter
    assert "count 4 is not in 0-3" in refused(Letter, b"\x07\x02\x01\x04abcdrest")
    assert "count 3 is more than the 2" in refused(Letter, b"\x07\x02\x01\x03ab")


def test_a_response_is_not_taken_for_a_request() -> None:
    with pytest.raises(WireError):
        PingRequestBody.decode(PingResponseBody(bytes(8)).encode())


def test_a_box_opens_to_its_body_and_a_broken_one_does_not() -> None:
    body = PingRequestBody(b"12345678")
    sealed = body.seal(SHARED, NONCE)
    assert len(sealed) == PingRequestBody.MAX_SIZE + crypto.MAC_SIZE
    assert PingRequestBody.open(SHARED, NONCE, sealed) == body
    with pytest.raises(WireError, match="a box of 25 bytes does not open"):
        PingRequestBody.open(SHARED, NONCE, sealed[:-1] + bytes((sealed[-1] ^ 1,)))


def test_packets_are_values() -> None:
    left, right = PingRequestBody(b"12345678"), PingRequestBody(b"12345678")
    assert left == right
    assert hash(left) == hash(right)
    assert left != PingResponseBody(b"12345678")
    assert repr(left) == "PingRequestBody(ping_id=3132333435363738)"
    assert left.type == 0


def test_a_count_is_made_from_what_it_counts() -> None:
    announce = GroupAnnounce(KEY, None, (TCP_NODE,))
    assert (announce.has_endpoint, announce.relay_count) == (0, 1)
    assert announce.encode()[32:34] == b"\x00\x01"
    assert NodesResponseBody((), bytes(8)).encode() == bytes(9)  # c-toxcore sends such


def test_a_count_that_lies_is_refused() -> None:
    good = NodesResponseBody((UDP_NODE,), bytes(8)).encode()
    assert "count 5 is more than 4" in refused(NodesResponseBody, b"\x05" + good[1:])
    refused(NodesResponseBody, b"\x02" + good[1:])
    assert "39 bytes too many" in refused(NodesResponseBody, b"\x00" + good[1:])
    assert "2 is neither 0 nor 1" in refused(GroupAnnounce, KEY + b"\x02\x00" + bytes(7))


def test_a_list_for_the_dht_holds_no_tcp_node() -> None:
    packed = pack_nodes([UDP_NODE, TCP_NODE])
    assert [len(pack_nodes([node])) for node in (UDP_NODE, TCP_NODE)] == [39, 51]
    assert unpack_nodes(packed, tcp=True) == (UDP_NODE, TCP_NODE)
    assert DhtKeyPacket(1, KEY, (UDP_NODE, TCP_NODE)).encode()[-90:] == packed
    with pytest.raises(WireError, match="a TCP node"):
        unpack_nodes(packed)
    with pytest.raises(ValueError, match="a TCP node"):
        NodesResponseBody((TCP_NODE,), bytes(8)).encode()


def test_only_one_form_of_an_address_is_read() -> None:
    mapped = b"\x0a" + bytes(10) + b"\xff\xff" + bytes((192, 0, 2, 1)) + b"\x82\xa5"
    with pytest.raises(WireError, match="an IPv4 address in 19 bytes"):
        unpack_nodes(mapped + KEY)
    with pytest.raises(WireError, match="family 11 is none of"):
        unpack_nodes(b"\x0b" + bytes(38))
    dirty = b"\x02" + bytes((192, 0, 2, 1)) + b"\x01" + bytes(11) + b"\x82\xa5"
    assert "not 0" in refused(OnionRequest2Body, dirty + b"x")
    assert "neither 2 nor 10" in refused(OnionRequest2Body, b"\x0b" + bytes(18) + b"x")


def test_a_payload_leaves_out_the_return() -> None:
    request = AnnounceRequest(NONCE, NO_KEY, bytes(120), NO_RETURN)
    assert len(request.encode()) == 354
    assert request.payload() == request.encode()[:177]


def test_a_field_that_takes_all_that_is_left_must_be_last() -> None:
    with pytest.raises(TypeError, match="takes all that is left"):

        class Wrong(Record):
            """Two tails."""

            first: Annotated[bytes, Rest(0, 4)]
            second: Annotated[bytes, Rest(0, 4)]

    with pytest.raises(TypeError, match="is no layout"):

        class Unknown(Record):
            """A number without a size."""

            number: int
