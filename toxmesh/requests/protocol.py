"""Requests that look into the protocol: the DHT's table, lookups, announces, data, onion hops."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from core.asking import CannotAnswer
from toxmesh.asker import alone
from toxmesh.control import Follow, Later, Request

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

KEEPER = "dht.0"  # it keeps the table

_OF_THE_TABLE = ("dht show", "dht near", "dht buckets", "dht diversity")


def requests(node: "Supervisor") -> dict[str, Request]:
    """Returns the requests of this group."""

    def of_the_table(what: str) -> Callable[[dict[str, Any]], Later]:
        return lambda args: node.asker.ask(KEEPER, what, args).map(alone(KEEPER))

    return {
        **{what: Request(of_the_table(what)) for what in _OF_THE_TABLE},
        "lookup": Request(lambda args: _look_up(node, args)),
    }


def _look_up(node: "Supervisor", args: dict[str, Any]) -> Later:
    """Begins a lookup; who asked follows it, and when they leave it ends."""

    def follow(answers: dict[str, Any]) -> Follow:
        begun = answers[KEEPER]
        number = begun["id"]

        def matches(name: str, data: dict[str, Any]) -> bool:
            if name == "worker":  # the lookup died with its process
                return data.get("name") == KEEPER and data.get("what") in ("down", "replaced")
            return bool(data.get("id") == number)

        def left() -> None:
            with suppress(CannotAnswer):  # it ends by itself after 30 s
                node.asker.ask(KEEPER, "lookup end", {"id": number})

        return Follow(begun, frozenset({"lookup", "worker"}), matches, left)

    return node.asker.ask(KEEPER, "lookup", args).map(follow)
