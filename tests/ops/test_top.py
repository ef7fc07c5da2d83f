"""`ops top`: tables sorted and filtered, keys, the plain mode, and a real screen."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ops import client, top, top_view
from ops.top_view import VIEWS, Choice, chosen, find_column, table
from tests.cli.commands import CHECKOUT, Said, call, spawn
from tests.packaging.terminal import Terminal
from tests.processes.node import Node, Pinger, running

ROWS = [
    {"name": "dht.0", "state": "good", "cpu_percent": 50.0, "packets_per_s": 10.0},
    {"name": "onion.0", "state": "good", "cpu_percent": 70.25, "packets_per_s": 5.0},
    {"name": "onion.1", "state": "restarting", "cpu_percent": 0.0, "packets_per_s": 0.0},
]
RATES = {"state": "good", "uptime_s": 3725.0, "received_per_s": 12345.0, "relay": {}}


def names(choice: Choice) -> list[str]:
    return [row["name"] for row in chosen(ROWS, choice)]


def test_numbers_are_sorted_from_the_greatest_and_texts_from_a() -> None:
    choice = Choice()
    assert names(choice) == ["onion.0", "dht.0", "onion.1"]
    choice.upside_down = True
    assert names(choice) == ["onion.1", "dht.0", "onion.0"]
    choice = Choice(sort=0)
    assert names(choice) == ["dht.0", "onion.0", "onion.1"]
    choice.sort = find_column(choice.view, "packets/s")
    assert names(choice) == ["dht.0", "onion.0", "onion.1"]


def test_a_filter_looks_at_texts() -> None:
    assert names(Choice(filter="ONION")) == ["onion.0", "onion.1"]
    assert names(Choice(filter="restart")) == ["onion.1"]
    assert names(Choice(filter="70")) == []


def test_columns_are_found_by_their_begin() -> None:
    view = VIEWS["kinds"]
    assert [view.columns[find_column(view, name)].title for name in ("in", "IN/S", "p")] == [
        "in", "in/s", "packet",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no column 'zz'; it has kind, packet, in/s"):
        find_column(view, "zz")


def test_the_sorted_column_is_marked_and_what_the_node_says_cannot_move_the_cursor() -> None:
    lines = table([{**ROWS[0], "name": "\x1b[2Jx"}], Choice(width=30))
    assert "[CPU %]" in table(ROWS, Choice())[0]
    assert all(line.isprintable() and len(line) <= 30 for line in lines)


def test_keys_are_whole_in_plain_tables_and_short_on_a_screen() -> None:
    row = {"key": "AB" * 32}
    assert "AB" * 32 in table([row], Choice(VIEWS["clients"]))[1]
    assert table([row], Choice(VIEWS["clients"], width=200))[1].split()[0] == "AB" * 8


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_row_without_its_fields_is_shown_as_far_as_it_goes(view: top_view.View) -> None:
    assert len(table([{}, {"rate": None}], Choice(view))) == 3
    assert top_view.head({}).startswith("toxmesh -")


class Made:
    """A node that answers as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.error: client.AskError | None = None
        monkeypatch.setattr(client, "ask", self.ask)

    def ask(self, state_dir: Path, request: str, args: object = None) -> dict[str, Any]:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        if request == "rates":
            return {**RATES, "kinds": {"0x00": {"received_per_s": 3.0}}, "other_per_s": 1.0}
        return {"rows": [dict(row) for row in ROWS], "total": 3, "shown": 3}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(monkeypatch)


def live(**options: Any) -> top.Live:
    shown = top.Live(Path("nowhere"), Choice(), 1.0, **options)
    shown.look()
    return shown


def text(shown: top.Live, height: int = 12, width: int = 100) -> list[str]:
    return [line.rstrip() for line, _ in shown.draw(height, width)]


def test_the_screen_has_the_node_the_table_and_its_keys(made: Made) -> None:
    lines = text(live())
    assert lines[0].startswith("toxmesh good, up 1 h 2 min   CPU 0.0 %  0 MiB   in 12,345/s")
    assert lines[1] == "workers, every 1 s"
    assert lines[2].startswith("worker")
    assert [line.split()[0] for line in lines[3:6]] == ["onion.0", "dht.0", "onion.1"]
    assert "q quit" in lines[-1]
    assert len(lines) == 12


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 5), (5, 20), (6, 300)])
def test_small_screens_show_what_fits(made: Made, height: int, width: int) -> None:
    lines = live().draw(height, width)
    assert len(lines) <= height
    assert all(len(line) <= width for line, _ in lines)


def test_keys_choose_tables_columns_and_filters(made: Made) -> None:
    shown = live()
    assert shown.press("k")
    shown.look()
    assert text(shown)[3].split()[:3] == ["0x00", "ping", "request"]
    assert "no packet of Tox" in text(shown)[4]
    assert shown.press("w")
    shown.look()
    shown.press("s")
    assert "[packets/s]" in text(shown)[2]
    shown.press("S")
    shown.press("r")
    assert text(shown)[3].startswith("onion.1")
    for key in "/dhtq":  # q is a letter of the filter now
        shown.press(key)
    assert text(shown)[1].endswith("filter: dhtq_")
    shown.press("backspace")
    shown.press("\n")
    assert text(shown)[1].endswith("filter: dht")
    assert [line for line in text(shown)[3:-2] if line] == [
        line for line in text(shown) if line.startswith("dht.0")
    ]
    shown.press("/")
    shown.press("\x1b")
    assert shown.choice.filter == ""
    shown.press("+")
    shown.press(" ")
    assert text(shown)[1] == "workers, every 2 s, stopped: space goes on"
    for _ in range(10):
        shown.press("-")
    assert shown.interval == 0.2
    shown.press("x")
    assert not shown.done
    shown.press("q")
    assert shown.done


def test_arrows_scroll_and_stop_at_the_ends(made: Made) -> None:
    shown = live()
    shown.press("down")
    assert text(shown, 7)[3].startswith("dht.0")
    for _ in range(9):
        shown.press("page down")
    assert [line.split()[0] for line in text(shown, 7)[3:5]] == ["dht.0", "onion.1"]
    for _ in range(9):
        shown.press("page up")
    assert text(shown, 7)[3].startswith("onion.0")


def test_a_node_that_goes_away_is_said_and_asked_again(made: Made) -> None:
    shown = live()
    made.error = client.AskError("no node answers at x", 4)
    shown.look()
    assert text(shown)[1] == "no node answers at x"
    assert text(shown)[3].startswith("onion.0")
    made.error = None
    shown.look()
    assert text(shown)[1] == "workers, every 1 s"


def test_a_node_without_relay_has_no_clients(made: Made) -> None:
    made.error = client.AskError("no relay", client.NOT_FOUND)
    assert VIEWS["clients"].ask(Path("nowhere")) == []
    made.error = client.AskError("no permission", client.NO_PERMISSION)
    with pytest.raises(client.AskError):
        VIEWS["clients"].ask(Path("nowhere"))


def test_it_ends_after_as_many_looks_as_wanted(made: Made) -> None:
    shown = live(looks=2)
    assert not shown.done
    shown.look()
    assert shown.done


# A real node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("top") / "state"
    options = ("--tcp-port", "0", "--http", "off")
    with running(folder, *options, workers="dht=1,onion=1,relay=0") as node:
        yield node


def ops(capsys: pytest.CaptureFixture[str], node: Node, *words: object) -> Said:
    return call(capsys, "ops", "top", *words, "--state-dir", node.state_dir)


@pytest.mark.process
def test_a_real_node_is_printed_in_plain_tables(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ops(capsys, node, "--batch", "-n", 2, "-i", 0.1, "--sort", "worker")
    assert said.code == 0
    lines = [line.split()[0] for line in said.out.splitlines() if line]
    assert lines == ["toxmesh", "[worker]", "broker", "dht.0", "onion.0"] * 2
    with closing(Pinger(node.key, node.udp_port)) as pinger:
        assert pinger.answered(5.0)
        for view in VIEWS:
            said = ops(capsys, node, view, "--json", "-n", 1)
            answer = json.loads(said.out)
            assert (said.code, answer["view"]) == (0, view)
            assert answer["rates"]["state"] == "good"
    wrong = ops(capsys, node, "--batch", "--sort", "zz")
    assert (wrong.code, wrong.err.count("\n")) == (3, 1)
    pipe = spawn("ops", "top", "--state-dir", node.state_dir)
    assert (pipe.code, "use --batch" in pipe.err) == (3, True)


def on_screen(state_dir: Path, *words: str, kind: str = "xterm") -> Terminal:
    """Runs `ops top` on a screen of 40 lines."""
    command = [sys.executable, "-m", "toxmesh", "ops", "top", *words, "--state-dir", str(state_dir)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return Terminal(command, environment, CHECKOUT, kind, (40, 160))


@pytest.mark.process
@pytest.mark.parametrize("kind", ["xterm", "linux", "vt100"])
def test_a_real_screen_is_filled_and_obeys(node: Node, kind: str) -> None:
    with on_screen(node.state_dir, "-i", "0.2", kind=kind) as screen:
        screen.wait_for("toxmesh good, up")
        screen.wait_for("onion.0")
        screen.enter("k")  # a screen is told what changes: what is looked for has no letter before
        screen.wait_for("kind")
        screen.enter("/ping")
        screen.wait_for("filter: ")
        screen.enter("\n")
        screen.enter("d")
        screen.wait_for("dropped because")
        screen.enter("q")
        assert screen.ended() == 0


@pytest.mark.process
def test_a_screen_of_an_unknown_kind_is_one_sentence(node: Node) -> None:
    with on_screen(node.state_dir, kind="no-such-screen") as screen:
        screen.wait_for("this screen cannot be used")
        assert screen.ended() == 3


@pytest.mark.process
def test_a_node_that_cannot_be_asked_never_gets_a_screen(tmp_path: Path) -> None:
    with on_screen(tmp_path) as screen:
        screen.wait_for("no node answers at")
        assert screen.ended() == 4
