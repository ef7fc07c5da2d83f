"""How the log looks where it goes, what is held back, and what is hidden."""

import io
import json
import logging
import os
import pty
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from core.asking import Events
from core.link import logs
from core.link.asked import Asked
from core.link.descriptors import Channel, Note
from core.link.logs import HIDDEN, Line, Log, look, redact


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger of its own, so that pytest's and ours do not meet."""
    made = logging.Logger("toxmesh.test")
    yield made
    made.handlers.clear()


def begin(logger: logging.Logger, style: str = "text", **options: Any) -> tuple[Log, io.StringIO]:
    stream = io.StringIO()
    log = Log(stream, style, "dht.0", **options)
    logger.addHandler(log)
    return log, stream


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("from 192.0.2.7:33445 came", f"from {HIDDEN}:33445 came"),
        ("node at 198.51.100.1.", f"node at {HIDDEN}."),
        ("[2001:db8::1]:33445", f"[{HIDDEN}]:33445"),
        ("address:2001:db8::1", f"address{HIDDEN}"),
        ("2001:0db8:0000:0000:0000:0000:0000:0001", HIDDEN),
        ("fe80::1%eth0 said", f"{HIDDEN} said"),
        ("::ffff:192.0.2.1", HIDDEN + HIDDEN),
        ("on 0.0.0.0, 127.0.0.1, :: and ::1", "on 0.0.0.0, 127.0.0.1, :: and ::1"),
        ("at 12:30:45 with a = b::c", f"at 12:30:45 with a = {HIDDEN}"),
        ("version 1.2.3, a::, key AB:CD", f"version 1.2.3, {HIDDEN}, key AB:CD"),
    ],
)
def test_addresses_are_hidden_and_nothing_that_is_none(text: str, hidden: str) -> None:
    assert redact(text) == hidden


def test_addresses_are_hidden_in_messages_and_traces_of_every_style(logger: logging.Logger) -> None:
    for style in ("text", "colour", "journal", "json"):
        heard: list[Line] = []
        log, stream = begin(logger, style, redacted=True)
        log.listener = heard.append
        try:
            raise ValueError("from 2001:db8::7")
        except ValueError:
            logger.exception("%s is odd", "192.0.2.7")
        said = stream.getvalue()
        assert said.count(HIDDEN) == 3  # the message, and the trace twice
        assert "192.0.2" not in said + str(heard)
        assert "2001" not in said + str(heard)
        logger.removeHandler(log)


def test_a_line_of_the_journal_bears_its_priority_whatever_is_in_it(logger: logging.Logger) -> None:
    _, stream = begin(logger, "journal")
    logger.error("two\nlines")
    logger.info("calm")
    assert stream.getvalue() == "<3>dht.0: two\n<3>lines\n<6>dht.0: calm\n"


def test_json_has_one_object_a_line(logger: logging.Logger) -> None:
    _, stream = begin(logger, "json")
    logger.warning("a\n%s", "b")
    row = json.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert (row["level"], row["process"], row["logger"]) == ("warning", "dht.0", "toxmesh.test")
    assert row["message"] == "a\nb"
    assert row["time"].endswith("Z")


def test_where_the_lines_go_decides_how_they_look() -> None:
    with tempfile.TemporaryFile("w") as file:
        row = os.fstat(file.fileno())
        journal = {"JOURNAL_STREAM": f"{row.st_dev}:{row.st_ino}"}
        assert look("auto", file, journal) == "journal"
        assert look("text", file, journal) == "text"
        assert look("auto", file, {"JOURNAL_STREAM": f"{row.st_dev}:{row.st_ino + 1}"}) == "json"
        assert look("auto", file, {}) == "json"
    ours, theirs = pty.openpty()
    with open(ours, "rb"), open(theirs, "w") as screen:
        assert look("auto", screen, {"TERM": "xterm"}) == "colour"
        assert look("auto", screen, {"TERM": "xterm", "NO_COLOR": "1"}) == "text"
        assert look("auto", screen, {"TERM": "dumb"}) == "text"
        assert look("json", screen, {"TERM": "xterm"}) == "json"
    assert look("auto", io.StringIO(), journal) == "json"


def test_lines_that_repeat_are_held_back_and_counted(logger: logging.Logger) -> None:
    clock = Clock()
    log, stream = begin(logger, clock=clock)
    for number in range(25):
        logger.warning("%d came", number)
    logger.warning("another")
    rows = stream.getvalue().splitlines()
    assert len(rows) == logs.MOST_ALIKE + 1
    log.settle(9.0)
    assert len(stream.getvalue().splitlines()) == len(rows)
    log.settle(10.0)
    assert stream.getvalue().splitlines()[-1].endswith("WARNING dht.0 toxmesh.test: 15 more like: "
                                                       "%d came")  # fmt: skip
    clock.now = 11.0
    for number in range(12):
        logger.warning("%d came", number)
    clock.now = 22.0
    logger.warning("%d came", 99)  # says the two before itself, without anybody's settling
    assert [row.rpartition(": ")[2] for row in stream.getvalue().splitlines()[-2:]] == [
        "%d came",
        "99 came",
    ]


def test_templates_without_number_are_bounded(logger: logging.Logger) -> None:
    clock = Clock()
    log, _ = begin(logger, clock=clock)
    for number in range(5000):
        logger.info(f"{number} came")  # a template that is none
    assert len(log._alike) == 1024
    clock.now = 20.0
    logger.info("x")
    assert len(log._alike) == 1


def test_a_log_that_nobody_takes_and_words_that_do_not_fit_stop_nothing(
    logger: logging.Logger,
) -> None:
    log, stream = begin(logger)
    logger.warning("%d", "no number")
    assert "%d ('no number',)" in stream.getvalue()
    stream.close()
    heard: list[Line] = []

    def listen(line: Line) -> None:
        heard.append(line)
        logger.warning("heard")  # must not be heard for ever

    log.listener = listen
    logger.warning("closed")
    assert [line.message for line in heard] == ["closed"]


@pytest.fixture
def started() -> Iterator[Log]:
    """The log of this process, as a child starts it; pytest's own comes back."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield logs.start_logging("info", "json", "dht.0")
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def asked() -> Iterator[tuple[Channel, Channel, Events]]:
    ours, theirs = Channel.pair()
    yield ours, Channel(theirs), Events()
    theirs.close()


def ask(number: int, **args: Any) -> Note:
    return Note("ask", {"id": number, "what": "log level", "args": args}, ())


def test_the_supervisor_hears_all_that_is_said_and_not_too_much_of_it(
    started: Log, asked: tuple[Channel, Channel, Events]
) -> None:
    _, channel, events = asked
    Asked(channel, None, events, lambda what, now: None)
    logging.getLogger("toxmesh.x").debug("not said")
    logging.getLogger("toxmesh.x").info("x" * 100_000)
    ((name, row),), _ = events.take()
    assert (name, row["level"], len(row["message"])) == ("log", "info", 8192)
    assert logs.current() is started


def test_a_level_is_changed_and_passes_when_its_time_is_over(
    started: Log, asked: tuple[Channel, Channel, Events]
) -> None:
    ours, channel, events = asked
    child = Asked(channel, None, events, lambda what, now: None)
    child.hear(ask(1, level="ERROR"), 0.0)
    child.hear(ask(2, level="no"), 0.0)
    child.hear(ask(3, level="debug", seconds=60), 10.0)
    child.hear(ask(4, level="debug", seconds=-1), 10.0)
    child.hear(ask(5), 40.0)
    good, bad, passing, negative, shown = ours.receive()
    assert good.body["answer"] == {"level": "error", "normal": "error", "back_in_s": None}
    assert bad.body["code"] == negative.body["code"] == "usage"
    assert passing.body["answer"] == {"level": "debug", "normal": "error", "back_in_s": 60.0}
    assert shown.body["answer"]["back_in_s"] == 30.0
    logs.settle(69.9)
    assert logs.get_level() == "debug"
    events.take()
    logs.settle(70.0)
    assert logs.level_now(70.0) == {"level": "error", "normal": "error", "back_in_s": None}
    ((_, row),), _ = events.take()
    assert row["message"] == "the log is back at its normal level, error"


def test_words_that_are_never_alike_are_bounded_as_well(logger: logging.Logger) -> None:
    clock = Clock()
    log, stream = begin(logger, clock=clock)
    for number in range(logs.MOST_LINES + 7):
        logger.info(f"line {number}")
    assert len(stream.getvalue().splitlines()) == logs.MOST_LINES
    log.settle(10.0)
    assert "7 more lines were left out" in stream.getvalue().splitlines()[-1]
