"""Requests about the clients of the relay: who is connected, who is linked to whom, and out."""

from typing import TYPE_CHECKING, Any

from core.asking import NOT_FOUND, CannotAnswer, key_of, text_of
from toxmesh.bans import MOST_NOTE, What
from toxmesh.control import Later, Request
from toxmesh.requests import bans

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

_BROKER = "broker"
_NOTHING: tuple[bool, Any] = (False, None)


def requests(node: "Supervisor") -> dict[str, Request]:
    """Returns the requests of this group."""
    return {
        "relay clients": Request(lambda args: _listing(node, "relay clients", args)),
        "relay client": Request(lambda args: client(node, args)),
        "relay links": Request(lambda args: _listing(node, "relay links", args)),
        "relay kick": Request(lambda args: kick(node, args), full=True),
    }


def _listing(node: "Supervisor", what: str, args: dict[str, Any]) -> Later:
    """Has the broker make a listing step by step, so that none keeps packets waiting."""
    result = Later()
    rows: list[dict[str, Any]] = []
    asked = {name: value for name, value in args.items() if name != "walk"}

    def step(walk: int | None) -> None:
        question = asked if walk is None else {"walk": walk}
        node.asker.ask(_BROKER, what, question).then(took)

    def took(later: Later) -> None:
        good, value = later.outcome or _NOTHING
        if not good:
            result.refuse(value)
            return
        part = value[_BROKER]
        rows.extend(part["rows"])
        if part["walk"] is None:
            result.resolve({"rows": rows, "total": part["total"], "shown": len(rows)})
            return
        try:
            step(part["walk"])
        except CannotAnswer as refusal:
            result.refuse(refusal)

    step(None)
    return result


def client(node: "Supervisor", args: dict[str, Any]) -> Later:
    """Shows one client: its connections, its links, and what its worker says of it."""

    def with_session(answers: dict[str, Any]) -> Any:
        answer = answers[_BROKER]
        serial, shard = answer.pop("serial"), answer.pop("shard")
        answer["session"] = None
        if shard < 0:
            return answer
        name = f"relay.{shard}"
        result = Later()

        def took(later: Later) -> None:
            good, value = later.outcome or _NOTHING
            if good:
                answer["session"] = value[name]
            result.resolve(answer)  # what its worker knows is little: it may be gone meanwhile

        try:
            node.asker.ask(name, "relay session", {"serial": serial}).then(took)
        except CannotAnswer:
            return answer
        return result

    return node.asker.ask(_BROKER, "relay client", args).map(with_session)


def kick(node: "Supervisor", args: dict[str, Any]) -> Later:
    """Closes the connections of a key."""
    key = key_of(args)
    reason = text_of(args, "reason", "", MOST_NOTE)
    seconds = bans.seconds_of(args)
    whats = [What(key, -1)] if seconds is not None else []
    bans.check(node, whats, force=False)

    def done(answers: dict[str, Any]) -> dict[str, Any]:
        closed = answers[_BROKER]["closed"]
        if not closed and not whats:
            text = f"no client {key.hex().upper()} is connected; nothing was closed"
            raise CannotAnswer(NOT_FOUND, text)
        return {
            "key": key.hex().upper(),
            "closed": closed,
            "addresses": answers[_BROKER]["addresses"],
            "until": made[0].until if made else None,
            "kept": kept,
        }

    question = {"key": key.hex(), "reason": reason}
    later = node.asker.ask(_BROKER, "relay kick", question)
    made = bans.new(whats, seconds, reason)
    kept = node.rules.ban(made) if made else True  # the broker hears of it behind the question
    return later.map(done)
