"""The log of one process: how its lines look where they go, what is held back, and who hears them.

One handler for everything. Lines that repeat are held back and counted, addresses are taken out
where the operator wants that, and one listener (the supervisor, in the end) hears what is said.
"""

import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TextIO

FORMATS = ("auto", "text", "json")
LEVELS = ("debug", "info", "warning", "error")

MOST_ALIKE = 10  # lines of one logger and template in WINDOW_S
MOST_LINES = 500  # of one process in WINDOW_S, whatever they are
WINDOW_S = 10.0
LONGEST_S = 86_400  # that a passing level may last
_MOST_TEMPLATES = 1024  # that are counted; templates are ours, so these are never so many
_MOST_MESSAGE = 8192  # characters of a message or trace that a listener is given

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # sd-daemon(3)
_COLOURS = {"debug": "2", "warning": "33", "error": "31", "critical": "1;31"}  # ECMA-48, SGR

_IPV4 = re.compile(r"(?<!\d)(?:\d{1,3}\.){3}\d{1,3}(?!\d)")
_IPV6 = re.compile(
    r"(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|[0-9A-Fa-f:]*::[0-9A-Fa-f:]*(?:%[0-9A-Za-z_.-]+)?"
)
_OWN = {"0.0.0.0", "127.0.0.1", "::", "::1"}  # nobody's in particular
HIDDEN = "(address)"


class Line(NamedTuple):
    """One record of the log as it is said."""

    at: float  # unix seconds
    level: str
    logger: str
    message: str
    trace: str = ""

    def as_data(self) -> dict[str, Any]:
        """Returns it for those who follow."""
        data = self._asdict()
        data["at"] = round(self.at, 3)
        data["message"] = self.message[:_MOST_MESSAGE]
        data["trace"] = self.trace[-_MOST_MESSAGE:]
        return data


def redact(text: str) -> str:
    """Returns a text without IPv4 and IPv6 addresses, but for those that are nobody's.

    Rather too much than too little: four numbers with dots are an address wherever they stand.
    """

    def hide(found: re.Match[str]) -> str:
        known = found[0] in _OWN or not any(letter.isalnum() for letter in found[0])
        return found[0] if known else HIDDEN

    return _IPV6.sub(hide, _IPV4.sub(hide, text))


# How a line looks


def _stamp(at: float, form: str) -> str:
    return f"{time.strftime(form, time.gmtime(at))}.{int(at * 1000) % 1000:03d}Z"


def _as_text(line: Line, process: str) -> str:
    stamp = _stamp(line.at, "%Y-%m-%d %H:%M:%S")
    text = f"{stamp} {line.level.upper()} {process} {line.logger}: {line.message}"
    return f"{text}\n{line.trace}" if line.trace else text


def _as_colour(line: Line, process: str) -> str:
    text = _as_text(line, process)
    colour = _COLOURS.get(line.level)
    return text if colour is None else f"\x1b[{colour}m{text}\x1b[0m"


def _as_journal(line: Line, process: str) -> str:
    """The journal has time and process id; each of its lines needs its own priority."""
    text = f"{process}: {line.message}" + (f"\n{line.trace}" if line.trace else "")
    head = f"<{_PRIORITIES.get(line.level, 6)}>"
    return "\n".join(head + row for row in text.splitlines())


def _as_json(line: Line, process: str) -> str:
    row = {
        "time": _stamp(line.at, "%Y-%m-%dT%H:%M:%S"),
        "level": line.level,
        "process": process,
        "logger": line.logger,
        "message": line.message,
    }
    if line.trace:
        row["trace"] = line.trace
    return json.dumps(row)


_LOOKS: dict[str, Callable[[Line, str], str]] = {
    "text": _as_text,
    "colour": _as_colour,
    "journal": _as_journal,
    "json": _as_json,
}


def look(wanted: str, stream: TextIO, environment: Mapping[str, str]) -> str:
    """Returns how lines look on a stream: `journal`, `colour`, `text` or `json`.

    `auto` is the journal's form where the stream is the journal (systemd.exec(5):
    JOURNAL_STREAM), text on a terminal (in colour unless https://no-color.org), else JSON.
    """
    if wanted != "auto":
        return wanted
    if _is_journal(stream, environment.get("JOURNAL_STREAM", "")):
        return "journal"
    if not stream.isatty():
        return "json"
    plain = environment.get("NO_COLOR") or environment.get("TERM", "dumb") == "dumb"
    return "text" if plain else "colour"


def _is_journal(stream: TextIO, named: str) -> bool:
    """Tells whether `named` (`device:inode`) is this stream; a pipe behind it is another one."""
    device, _, inode = named.partition(":")
    try:
        row = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(row.st_dev), str(row.st_ino))


# The handler


class _Alike:
    """Lines of one logger and template since some moment."""

    __slots__ = ("count", "level", "more", "since")

    def __init__(self, since: float, level: int) -> None:
        self.since = since
        self.level = level
        self.count = 0
        self.more = 0  # that were held back


class Log(logging.Handler):
    """Writes the log of this process: at most 10 alike in 10 s, then how many more there were.

    And at most 500 in all, for words that are never alike.
    """

    def __init__(
        self,
        stream: TextIO,
        style: str = "text",
        process: str = "",
        redacted: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.listener: Callable[[Line], None] | None = None
        """Hears every line that is said."""
        self._stream = stream
        self._look = _LOOKS[style]
        self._process = process
        self._redacted = redacted
        self._clock = clock
        self._alike: dict[tuple[str, str], _Alike] = {}
        self._all = _Alike(clock(), logging.WARNING)
        self._saying = False
        self.normal = "info"
        """The level to which a passing one goes back."""
        self.until: float | None = None
        """When it does so; None: the level does not pass."""

    def change(self, style: str, redacted: bool) -> None:
        """Changes how lines look from now on, and whether addresses are taken out of them."""
        self._look = _LOOKS[style]
        self._redacted = redacted

    def emit(self, record: logging.LogRecord) -> None:
        """Says a record, or counts it."""
        now = self._clock()
        place = (record.name, str(record.msg))
        alike = self._alike.get(place)
        if alike is None or now - alike.since >= WINDOW_S:
            if alike is not None or len(self._alike) >= _MOST_TEMPLATES:
                self.settle(now)
            alike = _Alike(now, record.levelno)
            if len(self._alike) < _MOST_TEMPLATES:
                self._alike[place] = alike
        alike.count += 1
        if alike.count > MOST_ALIKE:
            alike.more += 1
            return
        if now - self._all.since >= WINDOW_S:
            self._settle_all(now)
        self._all.count += 1
        if self._all.count > MOST_LINES:
            self._all.more += 1
        else:
            self._say(_line(record))

    def _settle_all(self, now: float) -> None:
        """Begins another window, and says what was too much in the one before."""
        before, self._all = self._all, _Alike(now, logging.WARNING)
        if before.more:
            text = f"{before.more} more lines were left out: over {MOST_LINES} in {WINDOW_S:g} s"
            self._say(Line(time.time(), "warning", "toxmesh.log", text))

    def settle(self, now: float) -> None:
        """Says how many were held back of what has not been said for long enough.

        And brings the level back to normal when its time is over.
        """
        if self.until is not None and now >= self.until:
            self.until = None
            logging.getLogger().setLevel(self.normal.upper())
            text = f"the log is back at its normal level, {self.normal}"
            self._say(Line(time.time(), "info", "toxmesh.log", text))
        if now - self._all.since >= WINDOW_S:
            self._settle_all(now)
        over = [row for row in self._alike.items() if now - row[1].since >= WINDOW_S]
        for (logger, template), alike in over:
            del self._alike[logger, template]
            if alike.more:
                level = logging.getLevelName(alike.level).lower()
                self._say(Line(time.time(), level, logger, f"{alike.more} more like: {template}"))

    def _say(self, line: Line) -> None:
        if self._redacted:
            line = line._replace(message=redact(line.message), trace=redact(line.trace))
        with suppress(OSError, ValueError):  # nobody takes the log: that is no reason to end
            self._stream.write(self._look(line, self._process) + "\n")
            self._stream.flush()
        if self.listener is not None and not self._saying:
            self._saying = True  # what a listener logs is not told to itself
            try:
                self.listener(line)
            finally:
                self._saying = False


def _line(record: logging.LogRecord) -> Line:
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):  # arguments that do not fit: the words still count
        message = f"{record.msg} {record.args}"
    trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
    return Line(record.created, record.levelname.lower(), record.name, message, trace.rstrip())


def start_logging(level: str, style: str, process: str = "", redacted: bool = False) -> Log:
    """Makes the log of this process go to standard error; `style`: one of FORMATS."""
    log = Log(sys.stderr, look(style, sys.stderr, os.environ), process, redacted)
    log.normal = level
    root = logging.getLogger()
    root.handlers[:] = [log]
    root.setLevel(level.upper())
    return log


def change(style: str, redacted: bool) -> None:
    """Changes how the lines of this process look from now on; `style`: one of FORMATS."""
    log = current()
    if log is not None:
        log.change(look(style, sys.stderr, os.environ), redacted)


def current() -> Log | None:
    """Returns the log of this process, if it was started."""
    return next((row for row in logging.getLogger().handlers if isinstance(row, Log)), None)


def settle(now: float) -> None:
    """Says how many lines were held back; to be called about once a second."""
    log = current()
    if log is not None:
        log.settle(now)


def get_level() -> str:
    """Returns the least level that this process says."""
    return logging.getLevelName(logging.getLogger().level).lower()


def set_level(level: str, until: float | None = None) -> None:
    """Changes the least level that this process says: one of LEVELS.

    `until`: monotonic seconds when the normal level comes back; None: this one is normal now.
    """
    logging.getLogger().setLevel(level.upper())
    log = current()
    if log is not None:
        log.until = until
        if until is None:
            log.normal = level


def level_now(now: float) -> dict[str, Any]:
    """Returns the level, the normal one, and for how many seconds they differ yet."""
    log = current()
    level = get_level()
    if log is None or log.until is None:
        return {"level": level, "normal": level, "back_in_s": None}
    return {
        "level": level,
        "normal": log.normal,
        "back_in_s": round(max(0.0, log.until - now), 1),
    }
