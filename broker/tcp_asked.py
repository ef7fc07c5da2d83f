"""What operators ask of the relay's streams, and what they have it do.

A relay may have 20,000 clients, so a listing is a walk: each question takes it some 2 ms further,
and between two of them packets have their turn. Who asks goes on until the walk is over.
"""

import heapq
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from broker.tcp_connection import CONFIRMED, Connection, Look, State
from core.asking import (
    BUSY,
    MOST_ROWS,
    NOT_FOUND,
    USAGE,
    CannotAnswer,
    key_of,
    text_of,
    whole_number,
)
from core.endpoint import to_text
from core.relay.directory import CONNECT_NOTICE, DISCONNECT_NOTICE, Client, Notice

if TYPE_CHECKING:
    from broker.tcp import RelayTcp

_STEP_S = 0.002  # of one step of a walk
_STEP_ROWS = 64  # between two looks at the clock
_WALKS = 8  # at a time
_WALK_S = 10.0  # after so long without a question a walk is forgotten
_SHARE = 0.05  # of the broker's time for all walks together
_BURST_S = 0.5  # that may be used at once: a dozen walks over 20,000 clients
_RATE_S = 0.5  # rates over a shorter time say little: those of the look before are given again
_RATE_MOST_S = 300.0  # and over a longer one they say nothing of now

_CHANGES = {CONNECT_NOTICE: "up", DISCONNECT_NOTICE: "down"}  # what the other end is told of it

Key = Callable[[Connection], Any]

log = logging.getLogger("toxmesh.relay")


def rates(row: Connection, now: float) -> tuple[tuple[float, float, float, float] | None, float]:
    """Returns frames in and out and bytes in and out a second since the look before, and over how
    many seconds; None at the first look."""
    before = row.looked
    if before is not None and now - before[0] < _RATE_S:
        return before[2], before[3]
    counts = (row.frames_in, row.frames_out, row.bytes_in, row.bytes_out)
    found: Look = (now, counts, None, 0.0)
    if before is not None and (passed := now - before[0]) <= _RATE_MOST_S:
        frames_in, frames_out, bytes_in, bytes_out = (
            (count - old) / passed for count, old in zip(counts, before[1], strict=True)
        )
        found = (now, counts, (frames_in, frames_out, bytes_in, bytes_out), passed)
    row.looked = found
    return found[2], found[3]


class _Walk:
    """One listing that is being made: first the best rows are found, then they are described."""

    def __init__(self, steps: Iterator[dict[str, Any] | None], now: float) -> None:
        self.steps = steps
        self.asked = now
        self.matched = 0


class Looks:
    """Answers questions about connections, clients and links, and closes those that have to go."""

    def __init__(self, tcp: "RelayTcp") -> None:
        self._tcp = tcp
        self._walks: dict[int, _Walk] = {}
        self._number = 0
        self._used = 0.0  # seconds in walks, melting away
        self._melted = 0.0
        self._asks: dict[str, Callable[[dict[str, Any], float], Any]] = {
            "relay clients": self._clients,
            "relay client": self._client,
            "relay links": self._links,
            "relay kick": self._kick,
        }

    def answer(self, what: str, args: dict[str, Any], now: float) -> Any:
        """Answers one question with plain data; raises CannotAnswer."""
        ask = self._asks.get(what)
        if ask is None:
            raise CannotAnswer(NOT_FOUND, f"{what} is nothing that the relay knows")
        return ask(args, now)

    # Walks

    def _begin(self, steps: Callable[[_Walk], Iterator[dict[str, Any] | None]], now: float) -> int:
        for number, walk in list(self._walks.items()):
            if now - walk.asked > _WALK_S:
                del self._walks[number]
        self._used = max(0.0, self._used - _SHARE * (now - self._melted))
        self._melted = now
        if len(self._walks) >= _WALKS or self._used > _BURST_S:
            raise CannotAnswer(BUSY, "too many look at the relay's clients; ask again in a moment")
        self._number += 1
        walk = _Walk(iter(()), now)
        walk.steps = steps(walk)
        self._walks[self._number] = walk
        return self._number

    def _go_on(self, number: int, now: float) -> dict[str, Any]:
        """Takes a walk further; `walk` of the answer is None when it is over."""
        walk = self._walks.get(number)
        if walk is None:
            raise CannotAnswer(BUSY, "the listing took too long; ask again")
        walk.asked = now
        rows: list[dict[str, Any]] = []
        begin = time.perf_counter()
        over = False
        while time.perf_counter() - begin < _STEP_S and not over:
            for _ in range(_STEP_ROWS):
                try:
                    row = next(walk.steps)
                except StopIteration:
                    over = True
                    break
                if row is not None:
                    rows.append(row)
        self._used += time.perf_counter() - begin
        if over:
            del self._walks[number]
        return {"rows": rows, "walk": None if over else number, "total": walk.matched}

    def _clients(self, args: dict[str, Any], now: float) -> dict[str, Any]:
        number = args.get("walk")
        if number is None:
            order = text_of(args, "sort", "since")
            found = _ORDERS.get(order)
            if found is None:
                raise CannotAnswer(USAGE, f"sort must be one of: {', '.join(_ORDERS)}")
            limit = whole_number(args, "limit", 100, 1, MOST_ROWS)
            matches = self._filter(args)
            key = found
            if order == "rate":
                key = lambda row: sum((rates(row, now)[0] or ())[2:])  # noqa: E731
            elif order == "links":
                key = self._count_links
            number = self._begin(
                lambda walk: self._clients_of(walk, matches, key, limit, now), now
            )
        return self._go_on(int(number), now)

    def _filter(self, args: dict[str, Any]) -> Callable[[Connection], bool]:
        """Returns which connections are meant."""
        state = text_of(args, "state", "")
        names = {row.name.lower(): row for row in list(State)[:-1]}
        if state and state not in names:
            raise CannotAnswer(USAGE, f"state must be one of: {', '.join(names)}")
        worker = text_of(args, "worker", "")
        shard = -2
        if worker:
            role, _, number = worker.partition(".")
            if role != "relay" or not number.isdigit() or int(number) not in self._tcp.works:
                there = ", ".join(f"relay.{shard}" for shard in sorted(self._tcp.works))
                raise CannotAnswer(NOT_FOUND, f"no such relay worker: {worker}; there are {there}")
            shard = int(number)
        begins = text_of(args, "key", "").upper()
        address = text_of(args, "address", "")
        wanted = names.get(state)
        only_full = bool(args.get("full", False))

        def matches(row: Connection) -> bool:
            return (
                (wanted is None or row.state == wanted)
                and (shard == -2 or row.shard == shard)
                and (not begins or row.key.hex().upper().startswith(begins))
                and (not address or to_text(row.source).strip("[").startswith(address))
                and (not only_full or row.full)
            )

        return matches

    def _clients_of(
        self,
        walk: _Walk,
        matches: Callable[[Connection], bool],
        key: Key,
        limit: int,
        now: float,
    ) -> Iterator[dict[str, Any] | None]:
        best: list[tuple[Any, int, Connection]] = []
        for row in list(self._tcp.connections.values()):
            if row.state != State.CLOSED and matches(row):
                walk.matched += 1
                place = (key(row), row.serial, row)
                if len(best) < limit:
                    heapq.heappush(best, place)
                elif place[:2] > best[0][:2]:
                    heapq.heapreplace(best, place)
            yield None
        best.sort(reverse=True)
        for _, _, row in best:
            yield self._row(row, now) if row.state != State.CLOSED else None

    def _links(self, args: dict[str, Any], now: float) -> dict[str, Any]:
        number = args.get("walk")
        if number is None:
            limit = whole_number(args, "limit", 100, 1, MOST_ROWS)
            state = text_of(args, "state", "")
            if state not in ("", "up", "waiting"):
                raise CannotAnswer(USAGE, "state must be up or waiting")
            number = self._begin(lambda walk: self._links_of(walk, state, limit), now)
        return self._go_on(int(number), now)

    def _links_of(self, walk: _Walk, state: str, limit: int) -> Iterator[dict[str, Any] | None]:
        for connection in list(self._tcp.connections.values()):
            client = self._tcp.directory.client(connection.serial)
            if client is None:
                yield None
                continue
            for row in _link_rows(client):
                if row["state"] == "up" and row["peer_serial"] < connection.serial:
                    yield None  # it was seen from the other side
                    continue
                if not state or row["state"] == state:
                    walk.matched += 1
                    if walk.matched <= limit:
                        row["key"] = connection.key.hex().upper()
                        del row["peer_serial"]
                        yield row
                        continue
                yield None

    # What operators follow

    def tell(self, change: str, connection: Connection, why: str, now: float) -> None:
        """Tells those who follow that a client has come or gone."""
        self._tcp.hooks.events.emit(
            "relay",
            {
                "change": change,
                "key": connection.key.hex().upper(),
                "address": to_text(connection.source),
                "worker": f"relay.{connection.shard}",
                "why": why,
                "age_s": round(now - connection.since, 3),
                "clients": len(self._tcp.directory),
            },
        )

    def tell_links(self, connection: Connection, notices: list[Notice], why: str) -> None:
        """Tells those who follow of each link that has come up or gone through a connection."""
        for notice in notices:
            change = _CHANGES.get(notice.frame[0])
            peer = self._tcp.connections.get(notice.serial)
            if change is None or peer is None:
                continue
            self._tcp.hooks.events.emit(
                "link",
                {
                    "change": change,
                    "key": connection.key.hex().upper(),
                    "peer": peer.key.hex().upper(),
                    "worker": f"relay.{connection.shard}",
                    "peer_worker": f"relay.{peer.shard}",
                    "why": why,
                },
            )

    # Single ones

    def _found(self, key: bytes) -> list[Connection]:
        """Returns the connections that have said this key, the client's first."""
        tcp = self._tcp
        client = tcp.directory.find(key)
        rows = [] if client is None else [tcp.connections[client.serial]]
        return rows + [row for row in tcp.admission.unconfirmed.values() if row.key == key]

    def _client(self, args: dict[str, Any], now: float) -> dict[str, Any]:
        key = key_of(args)
        found = self._found(key)
        if not found:
            raise CannotAnswer(NOT_FOUND, f"no client {key.hex().upper()} is connected")
        limit = whole_number(args, "limit", 240, 1, MOST_ROWS)
        client = self._tcp.directory.client(found[0].serial)
        links = [] if client is None else list(_link_rows(client))
        for row in links:
            del row["peer_serial"]
        return {
            "serial": found[0].serial,
            "shard": found[0].shard,
            "connections": [self._row(row, now) for row in found],
            "links": links[:limit],
        }

    def _kick(self, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Closes what has a key; `relay_kicked` counts it."""
        key = key_of(args)
        why = text_of(args, "reason", "")
        found = self._found(key)
        rows = [self._row(row, now) for row in found]
        for connection in found:
            self._tcp.close(connection, "relay_kicked", now)
        self._tcp.pump(now)
        if found:
            because = f" ({why})" if why else ""
            log.info("an operator has closed the connections of %s%s", key.hex().upper(), because)
        return {"closed": len(rows), "addresses": [row["address"] for row in rows]}

    def _count_links(self, row: Connection) -> int:
        client = self._tcp.directory.client(row.serial)
        return 0 if client is None else len(client.links)

    def _row(self, row: Connection, now: float) -> dict[str, Any]:
        client = self._tcp.directory.client(row.serial) if row.state == CONFIRMED else None
        up = waiting = 0
        if client is not None:
            up = sum(link.peer is not None for link in client.links.values())
            waiting = len(client.links) - up
        found, seconds = rates(row, now)
        rate = found or (None, None, None, None)
        return {
            "key": row.key.hex().upper() if row.key else None,
            "address": to_text(row.source),
            "state": row.state.name.lower(),
            "worker": f"relay.{row.shard}" if row.shard >= 0 else None,
            "age_s": round(now - row.since, 3),
            "seen_s": round(max(0.0, now - row.seen), 3),
            "frames_in": row.frames_in,
            "frames_out": row.frames_out,
            "bytes_in": row.bytes_in,
            "bytes_out": row.bytes_out,
            "frames_in_per_s": rate[0],
            "frames_out_per_s": rate[1],
            "bytes_in_per_s": rate[2],
            "bytes_out_per_s": rate[3],
            "rate_s": seconds,
            "queue_bytes": row.level,
            "full": row.full,
            "links_up": up,
            "links_waiting": waiting,
        }


def snapshot(tcp: "RelayTcp") -> dict[str, Any]:
    """Returns counts of all connections, clients and shards."""
    # Asked once a second: only those that are few are looked at one by one.
    states = Counter(row.state for row in tcp.admission.unconfirmed.values())
    states[CONFIRMED] = len(tcp.directory)
    return {
        "connections": {state.name.lower(): states[state] for state in list(State)[:-1]},
        "clients": len(tcp.directory),
        "full": len(tcp.full),
        "accepting": tcp.door.accepting,
        "shards": {number: work.snapshot() for number, work in tcp.works.items()},
        "counts": dict(tcp.counts),
    }


def _link_rows(client: Client) -> Iterator[dict[str, Any]]:
    for link_id, link in list(client.links.items()):
        yield {
            "link": link_id,
            "peer": link.key.hex().upper(),
            "peer_link": link.peer_id if link.peer is not None else None,
            "peer_serial": link.peer.serial if link.peer is not None else 0,
            "state": "up" if link.peer is not None else "waiting",
        }


def _address(row: Connection) -> tuple[int, bytes]:
    place = row.address + row.source[2:4]
    return -len(place), bytes(255 - byte for byte in place)  # the lowest come first


_ORDERS: dict[str, Key] = {
    "since": lambda row: row.since,
    "oldest": lambda row: -row.since,
    "seen": lambda row: row.seen,
    "silent": lambda row: -row.seen,
    "rate": lambda row: 0,  # bytes a second, made of the time of the question
    "frames": lambda row: row.frames_in + row.frames_out,
    "bytes": lambda row: row.bytes_in + row.bytes_out,
    "queue": lambda row: row.level,
    "links": lambda row: 0,  # needs the directory
    "address": _address,
    "key": lambda row: bytes(255 - byte for byte in row.key),
}
