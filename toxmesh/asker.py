"""Asks the node's processes for the operator, and puts their answers together."""

from collections.abc import Callable, Sequence
from typing import Any

from core.asking import BUSY, NOT_FOUND, TIMEOUT, CannotAnswer
from toxmesh.children import Child, State
from toxmesh.control import Later, Refused

_MOST_OPEN = 256  # questions at a time
_WAIT_S = 3.0  # after that a child counts as silent, as in `toxmesh.children.SILENT_S`

Tell = Callable[[Child, str, dict[str, Any]], None]


class _Round:
    """One question to some children, and what they have said so far."""

    def __init__(self, rows: Sequence[Child], until: float) -> None:
        self.later = Later()
        self.until = until
        self.missing = {(row.name, row.generation) for row in rows}
        self.answers: dict[str, Any] = {}
        self.refusals: dict[str, CannotAnswer] = {}

    def finish(self) -> None:
        """Gives the answers if there are any; else the first refusal."""
        for name, _ in self.missing:
            self.refusals[name] = Refused(TIMEOUT, f"{name} did not answer in time")
        self.missing.clear()
        if not self.answers and self.refusals:
            self.later.refuse(next(iter(self.refusals.values())))
        else:
            self.later.resolve(self.answers)


class Asker:
    """Questions to children that wait for their answers."""

    def __init__(self, children: Sequence[Child], tell: Tell, clock: Callable[[], float]) -> None:
        self._children = children
        self._tell = tell
        self._clock = clock
        self.number = 0
        """Of the last question: answers that come after an upgrade are for nobody."""
        self._open: dict[int, _Round] = {}

    def ask(self, who: str, what: str, args: dict[str, Any] | None = None) -> Later:
        """Asks a child by name, all of a role, or all (`*`); the answers come by child's name.

        Children that are not up are left out. If none answers, the first refusal is the answer;
        codes: `not_found` (nobody of that name is up), `busy`, `timeout`, and those of the child.
        """
        up = [row for row in self._children if row.state is State.UP]
        rows = [row for row in up if who in ("*", row.name, row.role)]
        if not rows:
            names = ", ".join(row.name for row in up)
            raise Refused(NOT_FOUND, f"no {who[:60]} is up in this node; up are {names}")
        if len(self._open) >= _MOST_OPEN:
            raise Refused(BUSY, "too many questions are open; try again in a moment")
        self.number += 1
        number = self.number
        question = self._open[number] = _Round(rows, self._clock() + _WAIT_S)
        for row in rows:
            self._tell(row, "ask", {"id": number, "what": what, "args": args or {}})
        return question.later

    def answered(self, row: Child, body: dict[str, Any]) -> None:
        """Takes a child's answer; one that comes too late is for nobody."""
        question = self._open.get(int(body["id"]))
        name = (row.name, row.generation)
        if question is None or name not in question.missing:
            return
        question.missing.discard(name)
        if body["ok"]:
            question.answers[row.name] = body["answer"]
        else:
            question.refusals[row.name] = CannotAnswer(str(body["code"]), str(body["error"]))
        if not question.missing:
            del self._open[int(body["id"])]
            question.finish()

    def gone(self, row: Child) -> None:
        """Takes note that a process has ended: nobody waits for it any more."""
        for number, question in list(self._open.items()):
            if (row.name, row.generation) in question.missing:
                question.missing.discard((row.name, row.generation))
                question.refusals[row.name] = Refused(TIMEOUT, f"{row.name} ended meanwhile")
                if not question.missing:
                    del self._open[number]
                    question.finish()

    def expire(self, now: float) -> None:
        """Ends the rounds whose time is over, with the answers that there are."""
        for number in [number for number, row in self._open.items() if row.until <= now]:
            self._open.pop(number).finish()


def alone(name: str) -> Callable[[dict[str, Any]], Any]:
    """Returns what takes one child's answer out of all, for `Later.map`."""
    return lambda answers: answers[name]
