"""What followers are told of the close list: who came, who went, who stopped or began to answer."""

from collections.abc import Collection, Mapping

from core.asking import Events
from core.endpoint import Endpoint, to_text
from core.messages import NodeRow


class CloseChanges:
    """Makes `dht` events while somebody follows them."""

    __slots__ = ("_came", "_events")

    def __init__(self, events: Events) -> None:
        self._events = events
        # Since the table was last published: they are good anyway.
        self._came: dict[bytes, None] = {}

    def came(self, key: bytes, endpoint: Endpoint, count: int) -> None:
        """A node got a place; the list has `count` nodes now."""
        if "dht" in self._events.wanted:
            self._came[key] = None
            self._tell("in", key, to_text(endpoint), count)

    def went(self, key: bytes, endpoint: Endpoint | None, count: int) -> None:
        """A node lost its place: another took it, or it has another key now."""
        if "dht" in self._events.wanted:
            self._came.pop(key, None)
            self._tell("out", key, None if endpoint is None else to_text(endpoint), count)

    def published(
        self,
        rows: Mapping[bytes, NodeRow | None],
        known: Mapping[bytes, NodeRow],
        close: Collection[bytes],
    ) -> None:
        """Tells which close nodes do not answer any more, and which do so again.

        `rows` is what will be given to others instead of `known`; None: the node is not good.
        """
        if "dht" not in self._events.wanted:
            self._came.clear()
            return
        for key, row in rows.items():
            if key not in close or key in self._came:
                continue
            before = known.get(key)
            if row is None and before is not None:
                self._tell("bad", key, _address(before), len(close))
            elif row is not None and before is None:
                self._tell("good", key, _address(row), len(close))
        self._came.clear()

    def _tell(self, change: str, key: bytes, address: str | None, count: int) -> None:
        self._events.emit(
            "dht",
            {"change": change, "key": key.hex().upper(), "address": address, "close": count},
        )


def _address(row: NodeRow) -> str:
    """Returns the address that the node prefers, as text."""
    return to_text(Endpoint(row.endpoint6 if row.prefers6 else row.endpoint4))
