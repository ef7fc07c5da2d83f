"""Requests about the identities that the node hosts: their friends, their sessions, and an end."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from core.asking import NOT_FOUND, CannotAnswer, key_of, listing, text_of
from core.slots import IDENTITY_ROLES
from toxmesh.control import Follow, Later, Request

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

Row = dict[str, Any]
_NOTHING: tuple[bool, Any] = (False, None)
_NO_IDENTITY = "this node hosts no identity; set identities.directory"
_NO_CARRIER: Row = {"dht_key": None, "udp_port": 0, "relays": []}
_NO_SESSION: Row = {
    "search": None, "addresses": [], "session": None, "address": None, "rtt_s": None,
    "packets_per_s": None, "queued": 0, "missing": 0, "sent_bytes": 0, "received_bytes": 0,
}  # fmt: skip
_SESSION = (
    "path", "address", "rtt_s", "packets_per_s", "queued", "missing", "sent_bytes",
    "received_bytes",
)  # fmt: skip


def requests(node: "Supervisor") -> dict[str, Request]:
    """Returns the requests of this group."""
    return {
        "identities": Request(lambda args: identities(node, args)),
        "friends": Request(lambda args: friends(node, args)),
        "sessions": Request(lambda args: sessions(node, args)),
        "session close": Request(lambda args: close(node, args), full=True),
        "session trace": Request(lambda args: trace(node, args)),
    }


def _ask(node: "Supervisor", role: str, what: str, then: Callable[[list[Any]], Any]) -> Later:
    """Asks all processes of a role, and goes on with their answers; with none if none is up."""
    later = Later()

    def answered(asked: Later) -> None:
        good, value = asked.outcome or _NOTHING
        later.resolve([value[name] for name in sorted(value)] if good else [])

    if role not in node.slots:
        later.resolve([])  # a node without identities has no such process
    else:
        try:
            node.asker.ask(role, what).then(answered)
        except CannotAnswer:  # nobody of the role is up: what the other role knows is still shown
            later.resolve([])
    return later.map(then)


def _flat(answers: Iterable[list[Row]]) -> list[Row]:
    return [row for answer in answers for row in answer]


def identities(node: "Supervisor", args: Row) -> Later:
    """Lists the identities: what their messenger and their carrier say of each."""

    def with_carriers(found: list[Any]) -> Later:
        rows = _flat(found)

        def merged(answers: list[Row]) -> Row:
            carriers = {key: carrier for answer in answers for key, carrier in answer.items()}
            for row in rows:
                carrier = carriers.get(row["key"], {})
                row |= {name: carrier.get(name, value) for name, value in _NO_CARRIER.items()}
            return listing(rows, args)

        return _ask(node, "net_crypto", "carriers", merged)

    return _ask(node, "messenger", "identities", with_carriers)


def _chosen(rows: list[Row], args: Row) -> list[Row]:
    """Returns the rows of one identity (by name or key) and of one friend (by name or key)."""
    own, friend = text_of(args, "identity", ""), text_of(args, "friend", "")
    if own:
        rows = [row for row in rows if own in (row["identity"], row["own_key"])
                or own.upper() == row["own_key"]]  # fmt: skip
    if friend:
        rows = [row for row in rows if friend == row["nick"] or friend.upper() == row["key"]]
    return rows


def _joined(node: "Supervisor", then: Callable[[list[Row], list[Row]], Row]) -> Later:
    """Asks messengers for friends and carriers for sessions, and goes on with both."""

    def with_sessions(found: list[Any]) -> Later:
        known = _flat(found)
        return _ask(node, "net_crypto", "sessions", lambda answers: then(known, _flat(answers)))

    return _ask(node, "messenger", "friends", with_sessions)


def friends(node: "Supervisor", args: Row) -> Later:
    """Lists friends of all identities, with the sessions to them."""

    def merged(known: list[Row], found: list[Row]) -> Row:
        by_pair = {(row["identity"], row["key"]): row for row in found}
        rows = []
        for row in known:
            session = by_pair.get((row["own_key"], row["key"]), {})
            row["transfers"] = len(row["transfers"])
            way = {name: session.get(name, value) for name, value in _NO_SESSION.items()}
            rows.append({**row, **way, "session": session.get("state")})
        return listing(_chosen(rows, args), args)

    return _joined(node, merged)


def sessions(node: "Supervisor", args: Row) -> Later:
    """Lists the sessions of all identities, those that are being made among them."""

    def merged(known: list[Row], found: list[Row]) -> Row:
        names = {(row["own_key"], row["key"]): row for row in known}
        rows = []
        for row in found:
            if row["state"] is None:
                continue
            friend = names.get((row["identity"], row["key"]), {})
            rows.append(
                {
                    "identity": friend.get("identity"),
                    "own_key": row["identity"],
                    "key": row["key"],
                    "nick": friend.get("nick"),
                    "state": row["state"],
                    **{name: row[name] for name in _SESSION},
                }
            )
        return listing(_chosen(rows, args), args)

    return _joined(node, merged)


def trace(node: "Supervisor", args: Row) -> Follow:
    """Follows what goes between the two processes of sessions with a key, and when these die."""
    key = key_of(args).hex().upper()
    if "net_crypto" not in node.slots:
        raise CannotAnswer(NOT_FOUND, _NO_IDENTITY)

    def matches(name: str, data: Row) -> bool:
        if name == "worker":
            return str(data.get("name")).partition(".")[0] in IDENTITY_ROLES
        return bool(data.get("key") == key)

    return Follow({"key": key}, frozenset({"session", "worker"}), matches)


def close(node: "Supervisor", args: Row) -> Later:
    """Ends the sessions with a key; identities and friends make new ones by themselves."""
    key = key_of(args).hex().upper()

    def done(answers: dict[str, list[str]]) -> Row:
        closed = [own for rows in answers.values() for own in rows]
        if not closed:
            raise CannotAnswer(NOT_FOUND, f"no identity has a session with {key}")
        return {"key": key, "closed": closed}

    if "net_crypto" not in node.slots:
        raise CannotAnswer(NOT_FOUND, _NO_IDENTITY)
    return node.asker.ask("net_crypto", "session close", {"key": key}).map(done)
