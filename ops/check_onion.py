"""The checks `onion` and `announce`: does a node carry onion paths, and keep announcements?

Paths lead through nodes that the node itself names, so that it stands once at each of the three
places; where it names none that answers, it is all three hops itself, which the protocol allows.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from core import crypto
from core.crypto import NONCE_SIZE, KeyPair, Nonce, PublicKey, SharedKey
from core.endpoint import Endpoint, is_ipv4, is_lan
from core.entropy import Entropy
from core.packets.announce import (
    NO_RETURN,
    NOT_STORED,
    STORED_BY_OTHER,
    STORED_BY_SENDER,
    AnnounceRequest,
    AnnounceRequestBody,
    AnnounceResponse,
    AnnounceResponseBody,
)
from core.packets.nodes import NodeInfo
from core.packets.onion import (
    OnionRequest0,
    OnionRequest0Body,
    OnionRequest1Body,
    OnionRequest2Body,
    OnionResponse3,
)
from core.wire import WireError
from ops import places
from ops.check_asker import Asker, Heard, Request
from ops.check_outcome import FAILED, GOOD, Outcome
from ops.check_udp import unheard

HOPS = 3
MAX_HELPERS = 6  # nodes that stand in a path beside the one that is checked
PATHS = 3  # with other helpers, for each place
NEAR_BITS = 12  # that a key has in common with the node's, where a random one is not kept
_SEARCHES = 4  # for nodes, of four each
_NO_PING_ID = bytes(32)
_SEARCH_PAUSES_S = (0.0, 0.05, 0.25, 0.7)
"""Before each search for a key just announced: a node of many processes needs a moment to tell
all of them. No client is so quick."""


class Hop(NamedTuple):
    """A node of a path."""

    key: PublicKey
    place: Endpoint


class Path(NamedTuple):
    """Three hops, and the node at its end that is asked."""

    hops: tuple[Hop, Hop, Hop]
    asked: Hop


def path_packet(path: Path, payload: bytes, entropy: Entropy) -> bytes:
    """Returns the onion request with which `payload` begins its way to the node asked.

    One nonce serves all layers; each hop shares another key with us.
    """
    nonce = Nonce(entropy.bytes(NONCE_SIZE))
    pairs = [KeyPair.generate(entropy) for _ in range(HOPS)]
    shared = [_shared(pair, hop.key) for pair, hop in zip(pairs, path.hops, strict=True)]
    third = OnionRequest2Body(path.asked.place, payload).seal(shared[2], nonce)
    second = OnionRequest1Body(path.hops[2].place, pairs[2].public, third).seal(shared[1], nonce)
    first = OnionRequest0Body(path.hops[1].place, pairs[1].public, second).seal(shared[0], nonce)
    return OnionRequest0(nonce, pairs[0].public, first).encode()


def _shared(pair: KeyPair, key: PublicKey) -> SharedKey:
    found = crypto.precompute(pair.secret, key)
    if found is None:
        raise ValueError("no node has this key: it is of low order")
    return found


class _Announcer:
    """One requester at one node: makes announce requests, and reads what is said to them."""

    def __init__(self, asker: Asker, own: KeyPair, node: PublicKey) -> None:
        self._asker, self._own = asker, own
        self._shared = asker.shared(node, own)

    def make(
        self, ping_id: bytes, searched: PublicKey, data_key: PublicKey
    ) -> tuple[AnnounceRequest, Callable[[AnnounceResponse], AnnounceResponseBody | None]]:
        """Makes a request, and what opens its answer (None: it belongs to another)."""
        nonce, sendback = self._asker.nonce(), self._asker.entropy.bytes(8)
        body = AnnounceRequestBody(ping_id, searched, data_key, sendback)
        sealed = body.seal(self._shared, nonce)

        def open_answer(answer: AnnounceResponse) -> AnnounceResponseBody | None:
            if answer.sendback != sendback:
                return None
            try:
                return AnnounceResponseBody.open(self._shared, answer.nonce, answer.sealed)
            except WireError:
                return None

        return AnnounceRequest(nonce, self._own.public, sealed, NO_RETURN), open_answer


def _through(asker: Asker, path: Path) -> Callable[[], Request[AnnounceResponseBody]]:
    """Returns what makes searches for a random key through a path."""
    announcer = _Announcer(asker, KeyPair.generate(asker.entropy), path.asked.key)

    def make() -> Request[AnnounceResponseBody]:
        searched = PublicKey(asker.entropy.bytes(32))
        request, open_answer = announcer.make(_NO_PING_ID, searched, crypto.NO_KEY)

        def read(datagram: bytes) -> AnnounceResponseBody | None:
            try:
                return open_answer(AnnounceResponse.decode(datagram))
            except WireError:
                return None

        return Request(path_packet(path, request.payload(), asker.entropy), read)

    return make


def helpers(asker: Asker, node: Hop) -> list[Hop]:
    """Returns nodes that `node` names, that answer pings, and that it can reach as we do."""
    named: dict[PublicKey, NodeInfo] = {}
    make = [
        (node.place, asker.nodes(node.key, PublicKey(asker.entropy.bytes(32))))
        for _ in range(_SEARCHES)
    ]
    for heard in asker.exchange_all(make):
        for info in heard.value if heard is not None else ():
            named.setdefault(info.key, info)
    fit = [
        Hop(info.key, info.endpoint)
        for info in named.values()
        if info.key != node.key
        and info.key not in crypto.LOW_ORDER
        and is_ipv4(info.endpoint) == is_ipv4(node.place)
        and is_lan(info.endpoint) == is_lan(node.place)
        and places.is_loopback(info.endpoint) == places.is_loopback(node.place)
    ]
    answers = asker.exchange_all([(hop.place, asker.ping(hop.key)) for hop in fit])
    alive = [hop for hop, heard in zip(fit, answers, strict=True) if heard is not None]
    return alive[:MAX_HELPERS]


def paths(node: Hop, others: list[Hop], place: int) -> list[Path]:
    """Returns paths with the node as hop number `place` (0-2), each with other helpers.

    No node sends to itself, if there are others: with one alone it takes turns with the node.
    """
    if not others:
        return [Path((node, node, node), node)]
    found = []
    for turn in range(min(PATHS, len(others))):
        row = [others[(turn + i) % len(others)] for i in range(HOPS + 1)]
        row[place] = node
        if len(others) == 1:
            row[(place + 2) % 4] = node
        elif place < 2:
            row[HOPS] = node
        found.append(Path((row[0], row[1], row[2]), row[3]))
    return found


def onion(asker: Asker, node: Hop) -> Outcome:
    """A search for announcements through paths in which the node is hop 1, 2 and 3."""
    pinged = asker.exchange(node.place, asker.ping(node.key))
    if pinged is None:
        return unheard("onion", asker, node.place)
    others = helpers(asker, node)
    if not others:
        return _alone(asker, node)
    times: list[float] = []
    bad: list[str] = []
    for place in range(HOPS):
        heard = _first_that_answers(asker, paths(node, others, place))
        if heard is None:
            bad.append(f"{place + 1}")
        else:
            times.append(heard.rtt_s)
    by = f"by way of {len(others)} node{'' if len(others) == 1 else 's'} that it names"
    details = {"helpers": len(others), "hops_failed": [int(hop) for hop in bad]}
    if not bad:
        return Outcome(
            "onion", GOOD, f"as hop 1, 2 and 3, {by}", sum(times) / len(times), details
        )
    text = f"no answer with it as hop {' and '.join(bad)}, {by}"
    if len(bad) == HOPS:
        alone = _alone(asker, node)
        text += (
            "; as all three hops itself it answers: perhaps those others do not"
            if alone.verdict == GOOD
            else ", and not as all three hops itself either"
        )
    return Outcome("onion", FAILED, text, details=details)


def _first_that_answers(
    asker: Asker, tried: list[Path]
) -> Heard[AnnounceResponseBody] | None:
    for path in tried:
        heard = asker.exchange(path.hops[0].place, _through(asker, path))
        if heard is not None:
            return heard
    return None


def _alone(asker: Asker, node: Hop) -> Outcome:
    heard = _first_that_answers(asker, paths(node, [], 0))
    details = {"helpers": 0}
    if heard is None:
        text = (
            "no answer through a path of three times itself, for it names no other node that "
            "answers: a router that sends nothing back inside would do the same"
        )
        return Outcome("onion", FAILED, text, details=details)
    text = "as all three hops itself, for it names no other node that answers"
    return Outcome("onion", GOOD, text, heard.rtt_s, details)


def announce(asker: Asker, node: Hop) -> Outcome:
    """Announces a key that is thrown away, and finds it as somebody else.

    The store is asked directly, as the third hop of a path would ask it. The entry is forgotten
    after five minutes, as those of all clients that do not come back.
    """
    if asker.exchange(node.place, asker.ping(node.key)) is None:
        return unheard("announce", asker, node.place)
    own = KeyPair.generate(asker.entropy)
    text = _announce(asker, node, own)
    near = isinstance(text, str) and text == _NOT_KEPT
    if near:
        found = near_key(asker.entropy, node.key)
        text = _announce(asker, node, found) if found is not None else text
    if isinstance(text, str):
        return Outcome("announce", FAILED, text)
    how = f"one that shares {NEAR_BITS} bits with the node's: a random one was not kept"
    return Outcome(
        "announce",
        GOOD,
        "a key was announced, and found by somebody else" + (f" ({how})" if near else ""),
        text,
        {"near": near},
    )


_NOT_KEPT = "it does not keep an announcement, near as its key may be"


def near_key(entropy: Entropy, key: bytes, bits: int = NEAR_BITS) -> KeyPair | None:
    """Makes a key pair whose public key begins as `key` does; None if chance is against it."""
    wanted = int.from_bytes(key[:4], "big") >> (32 - bits)
    for _ in range(16 << bits):  # fails once in 9 million times
        pair = KeyPair.generate(entropy)
        if int.from_bytes(pair.public[:4], "big") >> (32 - bits) == wanted:
            return pair
    return None


def _announce(asker: Asker, node: Hop, own: KeyPair) -> float | str:
    """Announces `own` and searches it: returns the round trip of the search, or what went wrong."""
    data_key = KeyPair.generate(asker.entropy).public
    announcer = _Announcer(asker, own, node.key)

    def ask(
        who: _Announcer, ping_id: bytes, about: PublicKey
    ) -> Heard[AnnounceResponseBody] | None:
        return asker.exchange(node.place, _direct(who, ping_id, own.public, about))

    first = ask(announcer, _NO_PING_ID, data_key)
    if first is None:
        return "pings are answered, announce requests are not"
    if first.value.is_stored != NOT_STORED:
        return "it says that a new key is stored already"
    second = ask(announcer, first.value.key, data_key)
    if second is None:
        return "the second of two announce requests, with the ping id, is not answered"
    if second.value.is_stored != STORED_BY_SENDER:
        return _NOT_KEPT
    for pause in _SEARCH_PAUSES_S:
        time.sleep(pause)
        other = _Announcer(asker, KeyPair.generate(asker.entropy), node.key)
        found = ask(other, _NO_PING_ID, crypto.NO_KEY)
        if found is None:
            return "a search for the announced key is not answered"
        if found.value.is_stored == STORED_BY_OTHER and found.value.key == data_key:
            return found.rtt_s
    return "the announced key is not found"


def _direct(
    who: _Announcer, ping_id: bytes, searched: PublicKey, data_key: PublicKey
) -> Callable[[], Request[AnnounceResponseBody]]:
    """Returns what makes announce requests as a third hop sends them, with an empty return."""

    def make() -> Request[AnnounceResponseBody]:
        request, open_answer = who.make(ping_id, searched, data_key)

        def read(datagram: bytes) -> AnnounceResponseBody | None:
            try:
                answer = OnionResponse3.decode(datagram)
                if answer.onion_return != NO_RETURN:
                    return None
                return open_answer(AnnounceResponse.decode(answer.payload))
            except WireError:
                return None

        return Request(request.encode(), read)

    return make
