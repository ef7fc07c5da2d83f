"""Searches of the DHT that an operator watches step by step: short, few, and kept apart.

A lookup uses what the searches for friends use (`searches`): the client list of at most eight
nodes, the nearest that were named, one round of questions a quarter second. But it ends: when
everybody near has been asked, when the searched node itself answers, after 30 s, or when nobody
watches any more. Its nodes are in no list that is given to others, and nobody's NAT is punched.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from core.asking import BUSY, NOT_FOUND, CannotAnswer
from core.dht.addresses import refusal
from core.dht.asking import Asker, NodesAnswer
from core.dht.distance import KEY_BITS, number_of
from core.dht.searches import SearchEntry
from core.dht.snapshot import MAX_SENT_NODES, NodeSnapshot
from core.endpoint import Endpoint, is_lan, to_text
from core.module import Context

MAX_LOOKUPS = 8  # at a time: at most 64 of the 512 requests that may wait
LIFE_S = 30.0
STEP_S = 0.25  # as the rounds of all searches (`keeper.ASK_S`)
SILENT_S = 2.0  # after that nobody waits for a node's answer; one that comes later still counts
_MOST_ADDRESSES = 16  # of the searched node, as others name them


class Result(Enum):
    """How a lookup ended."""

    FOUND = "found"  # the searched node answered itself
    NAMED = "named"  # others know where it is, but it does not answer us
    CONVERGED = "converged"  # the nearest nodes were asked, and none knows it
    TIMEOUT = "timeout"
    NOBODY = "nobody"  # no node answered


def shared_bits(one: int, other: int) -> int:
    """Returns how many leading bits two keys have in common: 256 for the same key."""
    return KEY_BITS - (one ^ other).bit_length()


@dataclass(slots=True)
class _Question:
    """One node that was asked."""

    key: bytes
    endpoint: Endpoint
    at: float
    round: int
    silent: bool = False


@dataclass(slots=True)
class Lookup:
    """One running lookup."""

    number: int
    entry: SearchEntry
    since: float
    begun: bool = False
    round: int = 0
    answered: int = 0
    silent: int = 0
    best: int = -1  # leading bits that the nearest node which answered shares with the key
    tried: set[tuple[bytes, Endpoint]] = field(default_factory=set)  # 16 a second for 30 s
    open: dict[bytes, _Question] = field(default_factory=dict)  # by request id, until answered
    addresses: Counter[Endpoint] = field(default_factory=Counter)  # of the searched node
    rtt: dict[bytes, float] = field(default_factory=dict)  # seconds, of nodes in the entry

    def waiting(self) -> int:
        """Returns how many answers are still waited for."""
        return sum(not question.silent for question in self.open.values())


class Lookups:
    """All lookups of this node; what happens in them is told as `lookup` events."""

    def __init__(self, context: Context, asker: Asker, nodes: NodeSnapshot) -> None:
        self._context = context
        self._options = context.options
        self._own_key = bytes(context.keys.public)
        self._asker = asker
        self._nodes = nodes
        self._running: dict[int, Lookup] = {}

    def __len__(self) -> int:
        return len(self._running)

    def running(self) -> tuple[Lookup, ...]:
        """Returns the lookups that have not ended."""
        return tuple(self._running.values())

    def begin(self, key: bytes, now: float) -> dict[str, Any]:
        """Begins a lookup, which the next step() carries on. Raises CannotAnswer."""
        if len(self._running) >= MAX_LOOKUPS:
            raise CannotAnswer(
                BUSY, f"{MAX_LOOKUPS} lookups are running; end one, or wait up to {LIFE_S:.0f} s"
            )
        entry = SearchEntry(key, MAX_SENT_NODES, set())  # who leaves it concerns nobody
        rows = self._nodes.closest(key, MAX_SENT_NODES, True)
        if not rows:
            raise CannotAnswer(
                NOT_FOUND, "this node knows no other node yet; `ops dht show` shows when it does"
            )
        for row in rows:
            endpoint = row.endpoint6 if row.prefers6 else row.endpoint4
            entry.to_ask.offer(row.key, Endpoint(endpoint), now)
        number = self._context.entropy.below(1 << 31)
        while number in self._running:
            number = self._context.entropy.below(1 << 31)
        self._running[number] = Lookup(number, entry, now)
        return {"id": number, "key": key.hex().upper(), "seconds": LIFE_S, "begins_with": len(rows)}

    def end(self, number: int) -> bool:
        """Forgets a lookup that nobody watches any more; tells whether it was still running."""
        return self._running.pop(number, None) is not None

    def take(self, answer: NodesAnswer, source: Endpoint, sender: bytes, now: float) -> bool:
        """Takes an answer to a nodes request if it was for a lookup, and tells whether it was."""
        for lookup in list(self._running.values()):
            question = lookup.open.pop(answer.request_id, None)
            if question is not None:
                self._answered(lookup, question, answer, source, sender, now)
                return True
        return False

    def _answered(
        self,
        lookup: Lookup,
        question: _Question,
        answer: NodesAnswer,
        source: Endpoint,
        sender: bytes,
        now: float,
    ) -> None:
        entry = lookup.entry
        if question.silent:
            lookup.silent -= 1
        lookup.answered += 1
        bits = shared_bits(number_of(sender), entry.number)
        lookup.best = max(lookup.best, bits)
        if entry.take(sender, source, now) is not None:
            lookup.rtt[sender] = answer.rtt
        nearer = self._take_named(lookup, answer.nodes, is_lan(source), now)
        self._tell(
            lookup,
            "answered",
            now,
            round=question.round,
            key=sender.hex().upper(),
            address=to_text(source),
            shared_bits=bits,
            rtt_ms=round(answer.rtt * 1000, 1),
            named=len(answer.nodes),
            nearer=nearer,
            knows_target=any(key == entry.key for key, _ in answer.nodes),
            nearest_bits=lookup.best,
        )
        if sender == entry.key:
            lookup.addresses[source] += 1
            self._finish(lookup, Result.FOUND, now)

    def _take_named(
        self, lookup: Lookup, nodes: Iterable[tuple[bytes, Endpoint]], from_lan: bool, now: float
    ) -> int:
        """Keeps the named nodes that are worth a question; returns how many these were."""
        entry = lookup.entry
        kept = 0
        for key, endpoint in nodes:
            options = self._options
            if (
                key == self._own_key
                or (key, endpoint) in lookup.tried
                or refusal(endpoint, from_lan, options.has_ipv4, options.has_ipv6) is not None
            ):
                continue
            if key == entry.key and (
                endpoint in lookup.addresses or len(lookup.addresses) < _MOST_ADDRESSES
            ):
                lookup.addresses[endpoint] += 1
            if entry.wants(key, endpoint, now):
                kept += entry.to_ask.offer(key, endpoint, now)
        return kept

    def step(self, now: float) -> bool:
        """Does one round of every lookup; tells whether any is still running."""
        for lookup in list(self._running.values()):
            self._step(lookup, now)
        return bool(self._running)

    def _step(self, lookup: Lookup, now: float) -> None:
        entry = lookup.entry
        if not lookup.begun:
            lookup.begun = True
            self._tell(lookup, "started", now, key=entry.key.hex().upper(), nodes=len(entry.to_ask))
        for question in lookup.open.values():
            if not question.silent and question.at + SILENT_S <= now:
                question.silent = True
                lookup.silent += 1
                self._tell(lookup, "silent", now, **self._place(lookup, question))
        if now >= lookup.since + LIFE_S:
            self._finish(lookup, Result.TIMEOUT, now)
            return
        if len(entry.to_ask) and lookup.waiting() <= MAX_SENT_NODES:
            self._ask(lookup, now)
        if not lookup.waiting() and not len(entry.to_ask):
            if not lookup.answered:
                self._finish(lookup, Result.NOBODY, now)
            else:
                named = bool(lookup.addresses)
                self._finish(lookup, Result.NAMED if named else Result.CONVERGED, now)

    def _ask(self, lookup: Lookup, now: float) -> None:
        lookup.round += 1
        for key, endpoint in lookup.entry.to_ask.take(now):
            lookup.tried.add((key, endpoint))
            request_id = self._asker.ask(endpoint, key, lookup.entry.key, now)
            if request_id is None:
                continue
            question = lookup.open[request_id] = _Question(key, endpoint, now, lookup.round)
            self._tell(lookup, "asked", now, **self._place(lookup, question))

    @staticmethod
    def _place(lookup: Lookup, question: _Question) -> dict[str, Any]:
        return {
            "round": question.round,
            "key": question.key.hex().upper(),
            "address": to_text(question.endpoint),
            "shared_bits": shared_bits(number_of(question.key), lookup.entry.number),
        }

    def _finish(self, lookup: Lookup, result: Result, now: float) -> None:
        del self._running[lookup.number]
        entry = lookup.entry
        nearest = []
        for client in reversed(entry.clients):
            endpoint = client.best(now)
            if endpoint is not None:
                nearest.append(
                    {
                        "key": client.key.hex().upper(),
                        "address": to_text(endpoint),
                        "shared_bits": shared_bits(client.number, entry.number),
                        "rtt_ms": round(lookup.rtt[client.key] * 1000, 1),
                    }
                )
        self._tell(
            lookup,
            "done",
            now,
            result=result.value,
            rounds=lookup.round,
            asked=len(lookup.tried),
            answered=lookup.answered,
            silent=lookup.silent,
            addresses=[
                {"address": to_text(endpoint), "voices": voices}
                for endpoint, voices in lookup.addresses.most_common()
            ],
            nearest=nearest,
        )

    def _tell(self, lookup: Lookup, what: str, now: float, **data: Any) -> None:
        """Tells the follower, who is the only reason that there is a lookup."""
        at_ms = round((now - lookup.since) * 1000, 1)
        self._context.events.emit(
            "lookup", {"id": lookup.number, "what": what, "at_ms": at_ms, **data}
        )
