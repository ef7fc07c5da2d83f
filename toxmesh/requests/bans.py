"""Requests that shut somebody out, or let him in again."""

import time
from typing import TYPE_CHECKING, Any

from core.asking import NOT_FOUND, REFUSED, USAGE, CannotAnswer, listing, text_of
from toxmesh import status
from toxmesh.bans import MOST, MOST_NOTE, MOST_SECONDS, Ban, What, nonsense, parse
from toxmesh.control import Request

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

_REASONS = ("banned:key", "banned:prefix", "relay_banned_key", "relay_banned_prefix")


def requests(node: "Supervisor") -> dict[str, Request]:
    """Returns the requests of this group."""
    return {
        "ban add": Request(lambda args: add(node, args), full=True),
        "ban list": Request(lambda args: show(node, args)),
        "ban remove": Request(lambda args: remove(node, args), full=True),
    }


def seconds_of(args: dict[str, Any]) -> float | None:
    """Returns how long something is to last, or None for ever; raises CannotAnswer."""
    value = args.get("seconds")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CannotAnswer(USAGE, "seconds must be a number")
    if not 1 <= value <= MOST_SECONDS:
        raise CannotAnswer(USAGE, f"seconds must be from 1 to {MOST_SECONDS:,.0f}")
    return float(value)


def _whats(args: dict[str, Any]) -> list[What]:
    given = args.get("what")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(row, str) for row in texts):
        raise CannotAnswer(USAGE, "what must be a prefix, an address or a key, or a list of these")
    return [parse(text) for text in texts]


def check(node: "Supervisor", whats: list[What], force: bool) -> None:
    """Refuses what no operator can mean."""
    for what in whats:
        if what.bits < 0 and what.data == node.keys.public:
            raise CannotAnswer(REFUSED, f"{what} is this node's own key")
        why = nonsense(what, node.keys.public)
        if why and not force:
            raise CannotAnswer(REFUSED, f"{why}; add --force if that is meant")


def new(whats: list[What], seconds: float | None, note: str) -> list[Ban]:
    """Returns bans that begin now."""
    now = time.time()
    until = None if seconds is None else now + seconds
    return [Ban(what, now, until, note) for what in whats]


def add(node: "Supervisor", args: dict[str, Any]) -> dict[str, Any]:
    """Shuts prefixes and keys out: all that are named, or none."""
    whats = _whats(args)
    check(node, whats, args.get("force") is True)
    bans = new(whats, seconds_of(args), text_of(args, "note", "", MOST_NOTE))
    kept = node.rules.ban(bans)
    now = time.time()
    rows = [ban.row(now) for ban in bans]
    return {"rows": rows, "total": len(rows), "shown": len(rows), "kept": kept}


def show(node: "Supervisor", args: dict[str, Any]) -> dict[str, Any]:
    """Lists bans, the last first, and how often they were put to use."""
    bans = node.rules.bans
    kind = text_of(args, "kind", "")
    if kind not in ("", "prefix", "key"):
        raise CannotAnswer(USAGE, "kind must be prefix or key")
    match = text_of(args, "match", "")
    found = bans.find(parse(match)) if match else bans.rows()[::-1]
    now = time.time()
    rows = [ban.row(now) for ban in found if kind in ("", ban.what.kind)]
    drops = status.totals(node)[0].drops
    return {
        **listing(rows, args),
        "most": MOST,
        "refused": {reason: drops[reason] for reason in _REASONS},
    }


def remove(node: "Supervisor", args: dict[str, Any]) -> dict[str, Any]:
    """Lets somebody in again."""
    if args.get("all") is True:
        gone, kept = node.rules.let_in([ban.what for ban in node.rules.bans.rows()])
    else:
        whats = _whats(args)
        for what in whats:
            if all(ban.what != what for ban in node.rules.bans.find(what)):
                raise CannotAnswer(NOT_FOUND, _not_banned(node, what))
        gone, kept = node.rules.let_in(whats)
    now = time.time()
    rows = [ban.row(now) for ban in gone]
    return {"rows": rows, "total": len(rows), "shown": len(rows), "kept": kept}


def _not_banned(node: "Supervisor", what: What) -> str:
    wider = [str(ban.what) for ban in node.rules.bans.find(what)]
    if wider:
        return f"{what} is not banned itself, but {wider[-1]} is, in which it lies"
    return f"{what} is not banned; toxmesh ops ban list shows who is"
