"""A child's side of operators' questions: notes in, answers and events out, through the channel."""

from collections.abc import Callable, Mapping
from typing import Any

from core.asking import NOT_FOUND, REFUSED, USAGE, Ask, CannotAnswer, Events, text_of, whole_number
from core.bounds import Bounds
from core.link import logs
from core.link.child import plain
from core.link.descriptors import Channel, Note

_MOST_WAITING = 4 << 20  # bytes in the channel beyond which events are given up


class Asked:
    """Answers `ask` notes and passes events on, for a worker or a broker."""

    def __init__(
        self,
        channel: Channel,
        ask: Ask | None,
        events: Events,
        bug: Callable[[str, float], None],
        own: Mapping[str, Ask] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        """`ask`: the module's; `own`: questions to the process itself; bug(what, now) counts."""
        self._bounds = bounds or Bounds()
        self._channel = channel
        self._ask = ask
        self._bug = bug
        self._own: dict[str, Ask] = {
            "log level": _log_level,
            "heard": _heard,
            "limits": lambda what, args, now: self._bounds.show(),
            **(own or {}),
        }
        self.events = events
        log = logs.current()
        if log is not None:
            log.listener = self._log

    def _log(self, line: logs.Line) -> None:
        """Tells the supervisor what was logged: it keeps the last lines of all processes."""
        self.events.emit("log", line.as_data())

    def hear(self, note: Note, now: float) -> bool:
        """Answers a note that is for operators; returns whether it was one."""
        if note.name == "ask":
            self._answer(note.body, now)
        elif note.name == "limits":
            self._bounds.learn(note.body["values"])
        elif note.name == "follow":
            self.events.follow(str(name) for name in note.body["names"])
        else:
            return False
        return True

    def _answer(self, body: dict[str, Any], now: float) -> None:
        what, args = str(body["what"]), dict(body["args"])
        reply: dict[str, Any] = {"id": body["id"], "ok": False}
        ask = self._own.get(what, self._ask)
        try:
            if ask is None:
                raise CannotAnswer(NOT_FOUND, f"{what} is nothing that this process knows")
            reply["answer"] = plain(ask(what, args, now))
            reply["ok"] = True
        except CannotAnswer as refusal:
            reply["code"], reply["error"] = refusal.code, refusal.text
        except Exception:  # a view of the state must not end what it shows; counted and logged
            self._bug(f"question {what}", now)
            reply["code"], reply["error"] = REFUSED, f"{what} broke; the node's log says how"
        self._channel.send("answer", reply)

    def tell_events(self) -> None:
        """Sends what has happened, unless the supervisor is behind."""
        rows, lost = self.events.take()
        if self._channel.waiting > _MOST_WAITING:
            lost, rows = lost + len(rows), []
        self._channel.send(
            "events", {"rows": [[name, plain(data)] for name, data in rows], "lost": lost}
        )


def _heard(what: str, args: dict[str, Any], now: float) -> dict[str, Any]:
    """Says that all that was told before has been heard, for a channel keeps the order."""
    return {}


def _log_level(what: str, args: dict[str, Any], now: float) -> dict[str, Any]:
    """Shows or changes how much this process logs; `seconds`: for how long."""
    if "level" in args:
        level = text_of(args, "level").lower()
        if level not in logs.LEVELS:
            raise CannotAnswer(USAGE, f"level must be one of {', '.join(logs.LEVELS)}")
        seconds = whole_number(args, "seconds", 0, 0, logs.LONGEST_S)
        logs.set_level(level, now + seconds if seconds else None)
    return logs.level_now(now)
