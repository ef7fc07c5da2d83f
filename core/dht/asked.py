"""What operators may ask dht.0; docs/control.md says what the answers are made of."""

from collections.abc import Callable
from typing import Any

from core.asking import MOST_ROWS, NOT_FOUND, USAGE, CannotAnswer, key_of, text_of, whole_number
from core.dht import diversity
from core.dht.addresses import own_addresses
from core.dht.distance import BUCKET_COUNT, BUCKET_SIZE, LAST_BUCKET, bucket_of, number_of
from core.dht.keeper import TableKeeper
from core.dht.lookups import shared_bits
from core.dht.sightings import LISTS, STATES, Sighting, sightings
from core.dht.snapshot import MAX_SENT_NODES, NodeSnapshot
from core.endpoint import is_ipv4, is_lan, to_text

_NEAR = 16  # nodes shown around a key if nobody says how many
_TOP = 5  # prefixes named of each length
_TARGETS = 100  # searches shown
_LAST_ID = (1 << 31) - 1

Order = Callable[[Sighting], Any]


class DhtView:
    """Answers questions about the table of one dht.0."""

    def __init__(self, keeper: TableKeeper, table: NodeSnapshot) -> None:
        self._keeper = keeper
        self._table = table
        self._own = number_of(table.own_key)
        self._answers: dict[str, Callable[[dict[str, Any], float], dict[str, Any]]] = {
            "dht show": self._show,
            "dht near": self._near,
            "dht buckets": self._buckets,
            "dht diversity": self._diversity,
            "lookup": self._begin_lookup,
            "lookup end": self._end_lookup,
        }

    def ask(self, what: str, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Answers one question. Raises CannotAnswer."""
        answer = self._answers.get(what)
        if answer is None:
            raise CannotAnswer(NOT_FOUND, f"{what[:60]} is nothing that dht.0 knows")
        return answer(args, now)

    def summary(self) -> dict[str, Any]:
        """Returns what an operator wants to see at once, as of the last packet or timer."""
        keeper, close, now = self._keeper, self._keeper.close, self._keeper.now
        sizes = close.bucket_sizes(now)
        return {
            "close_nodes": sum(sizes.values()),
            "close_places_used": len(close),
            "buckets": {str(number): n for number, n in sizes.items()},
            "nodes": close.counts(now),
            "places": close.places(now),
            "announcers": sum(client.announces for client in close),
            "connected": close.has_good(now),
            "connected_outside": close.has_good_wan(now),
            "searches": sum(not keeper.is_random(key) for key in keeper.searches),
            "pending_pings": len(keeper.asker.pings),
            "pending_requests": len(keeper.asker.requests),
            "pending_lost": keeper.asker.lost(),
            "own_addresses": [
                [to_text(endpoint), voices] for endpoint, voices in own_addresses(close, now)
            ],
        }

    def _show(self, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Lists the known addresses of nodes."""
        own = self._own
        orders: dict[str, Order] = {
            "near": lambda row: row.number ^ own,
            "heard": lambda row: -row.seen,
            "rtt": lambda row: float("inf") if row.rtt is None else row.rtt,
            "address": lambda row: (len(row.endpoint), row.endpoint[4:], row.endpoint[2:4]),
            "state": lambda row: (STATES.index(row.state(now)), row.number ^ own),
        }
        order = orders[_choice(args, "sort", tuple(orders), "near")]
        state = _choice(args, "state", ("", *STATES), "")
        name = _choice(args, "list", ("", *LISTS), "")
        limit = whole_number(args, "limit", 100, 1, MOST_ROWS)
        rows = [
            row
            for row in sightings(self._keeper)
            if (not state or row.state(now) == state) and (not name or name in row.lists)
        ]
        rows.sort(key=order)
        shown = [row.row(own, now) for row in rows[:limit]]
        return {
            "own_key": self._table.own_key.hex().upper(),
            "rows": shown,
            "total": len(rows),
            "shown": len(shown),
        }

    def _near(self, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Lists the nodes nearest to a key, and which of them this node names when asked for it."""
        key = key_of(args)
        target = number_of(key)
        limit = whole_number(args, "limit", _NEAR, 1, MOST_ROWS)
        rows = sorted(sightings(self._keeper), key=lambda row: row.number ^ target)
        given = {
            to_lan: {row.key for row in self._table.closest(key, MAX_SENT_NODES, to_lan)}
            for to_lan in (False, True)
        }
        shown = []
        for row in rows[:limit]:
            told = row.row(target, now)
            told["distance_bits"] = (row.number ^ target).bit_length()
            told["named_outside"] = row.key in given[False]
            told["named_inside"] = row.key in given[True]
            shown.append(told)
        return {
            "key": key.hex().upper(),
            "own_shared_bits": shared_bits(self._own, target),
            "rows": shown,
            "total": len(rows),
            "shown": len(shown),
        }

    def _buckets(self, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Shows how full the k-buckets of the close list are, and the lists of searches."""
        rows: dict[int, dict[str, Any]] = {}
        for client in self._keeper.close:
            bucket = bucket_of(self._own, client.number)
            row = rows.setdefault(
                bucket,
                {
                    "shared_bits": bucket,
                    "deeper": bucket == LAST_BUCKET,
                    "nodes": 0,
                    "good": 0,
                    "ipv4": 0,
                    "ipv6": 0,
                    "places": BUCKET_SIZE,
                },
            )
            row["nodes"] += 1
            row["good"] += not client.is_bad(now)
            row["ipv4"] += client.four is not None
            row["ipv6"] += client.six is not None
        targets = [
            {
                "key": key.hex().upper(),
                "kind": "random" if self._keeper.is_random(key) else "search",
                "nodes": len(search.clients),
                "good": sum(not client.is_bad(now) for client in search.clients),
                "nearest_bits": max(
                    (shared_bits(client.number, search.number) for client in search.clients),
                    default=None,
                ),
            }
            for key, search in list(self._keeper.searches.items())[:_TARGETS]
        ]
        found = [rows[bucket] for bucket in sorted(rows)]
        limit = whole_number(args, "limit", 100, 1, MOST_ROWS)
        return {
            "own_key": self._table.own_key.hex().upper(),
            "close": len(self._keeper.close),
            "places": BUCKET_COUNT * BUCKET_SIZE,
            "given_to_others": len(self._table.rows),
            "lookups": len(self._keeper.lookups),
            "targets": targets,
            "targets_total": len(self._keeper.searches),
            "rows": found[:limit],
            "total": len(found),
            "shown": len(found[:limit]),
        }

    def _diversity(self, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Counts nodes by prefix of their address and of their key."""
        most = whole_number(args, "limit", _TOP, 1, MOST_ROWS)
        alive = [row for row in sightings(self._keeper) if row.state(now) != STATES[-1]]
        nodes = [(row.key, row.endpoint) for row in alive]
        prefixes = diversity.by_prefix(diversity.public_nodes(nodes), most)
        near = diversity.by_distance(
            [
                client.number ^ self._own
                for client in self._keeper.close
                if not client.is_bad(now)
            ]
        )
        return {
            "nodes": len({row.key for row in alive}),
            "ipv4": sum(is_ipv4(row.endpoint) for row in alive),
            "ipv6": sum(not is_ipv4(row.endpoint) for row in alive),
            "local": sum(is_lan(row.endpoint) for row in alive),
            "prefixes": prefixes,
            "near": near,
            "signs": diversity.signs(prefixes, near),
        }

    def _begin_lookup(self, args: dict[str, Any], now: float) -> dict[str, Any]:
        return self._keeper.begin_lookup(key_of(args), now)

    def _end_lookup(self, args: dict[str, Any], now: float) -> dict[str, Any]:
        number = whole_number(args, "id", -1, 0, _LAST_ID)
        return {"ended": self._keeper.lookups.end(number)}


def _choice(args: dict[str, Any], name: str, known: tuple[str, ...], default: str) -> str:
    """Returns one of some words that was given as an argument. Raises CannotAnswer."""
    value = text_of(args, name, default)
    if value not in known:
        words = ", ".join(word for word in known if word)
        raise CannotAnswer(USAGE, f"{name} must be one of: {words}")
    return value
