"""`toxmesh ops top`: the running node on one screen, refreshed all the time."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from ops import client, options, repeat
from ops.top_view import VIEWS, Choice, chosen, find_column, head, table

if TYPE_CHECKING:
    import curses

USAGE = 3
_HELP = "w workers  k kinds  p prefixes  c clients  d drops  |  s/S sort  r reverse  / filter"
_MORE = "arrows scroll  + - interval  space stop  q quit"
_LEAST_S, _MOST_S = 0.2, 60.0


class Live:
    """The screen: what was asked last, and what keys do. Drawing is `draw`, keys are `press`."""

    def __init__(self, state_dir: Path, choice: Choice, interval: float, looks: int = 0) -> None:
        """`looks`: how often to ask before the end; 0: until somebody has enough."""
        self.choice = choice
        self.interval = interval
        self._looks = looks
        self.first = 0  # row at the top
        self.done = False
        self.stopped = False
        self.typing = False  # a filter
        self.trouble = ""
        self._state_dir = state_dir
        self._rates: dict[str, Any] = {}
        self._rows: list[dict[str, Any]] = []

    def look(self) -> None:
        """Asks the node; what goes wrong is shown, and it is asked again at the next turn."""
        self._looks -= 1
        self.done = self.done or self._looks == 0
        try:
            self._rates = client.ask(self._state_dir, "rates")
            self._rows = self.choice.view.ask(self._state_dir)
            self.trouble = ""
        except client.AskError as error:
            self.trouble = str(error)

    def press(self, key: str) -> bool:
        """Does what a key is for; returns whether the node has to be asked now."""
        if self.typing:
            self._type(key)
            return False
        for view in VIEWS.values():
            if key == view.key:
                self.choice.look_at(view)
                self._rows, self.first = [], 0
                return True
        acts: dict[str, Callable[[], object]] = {
            "q": lambda: setattr(self, "done", True),
            "s": self.choice.next_column,
            "S": lambda: self.choice.next_column(-1),
            "r": lambda: setattr(self.choice, "upside_down", not self.choice.upside_down),
            "/": lambda: setattr(self, "typing", True),
            " ": lambda: setattr(self, "stopped", not self.stopped),
            "+": lambda: setattr(self, "interval", min(_MOST_S, self.interval * 2)),
            "-": lambda: setattr(self, "interval", max(_LEAST_S, self.interval / 2)),
            "down": lambda: self._scroll(1),
            "up": lambda: self._scroll(-1),
            "page down": lambda: self._scroll(20),
            "page up": lambda: self._scroll(-20),
        }
        acts.get(key, lambda: None)()
        return False

    def _scroll(self, rows: int) -> None:
        self.first = max(0, min(self.first + rows, len(self._rows) - 1))

    def _type(self, key: str) -> None:
        """Takes a letter of the filter."""
        self.first = 0
        if key in ("\n", "\x1b"):
            self.typing = False
            if key == "\x1b":
                self.choice.filter = ""
        elif key in ("\x7f", "\b", "backspace"):
            self.choice.filter = self.choice.filter[:-1]
        elif len(key) == 1 and key.isprintable():
            self.choice.filter += key

    def draw(self, height: int, width: int) -> list[tuple[str, bool]]:
        """Returns the lines of the screen, and whether each stands out."""
        choice = self.choice
        choice.width = width
        heading, *rows = table(self._rows, choice)
        lines = [(head(self._rates)[:width] if self._rates else "", False)]
        state = [choice.view.name, f"every {self.interval:g} s"]
        if self.stopped:
            state.append("stopped: space goes on")
        if choice.filter or self.typing:
            state.append(f"filter: {choice.filter}{'_' if self.typing else ''}")
        lines.append((self.trouble[:width] or ", ".join(state)[:width], bool(self.trouble)))
        lines.append((heading.ljust(width)[:width], True))
        room = max(0, height - 5)
        self.first = max(0, min(self.first, len(rows) - room))
        shown = rows[self.first : self.first + room]
        lines += [(row, False) for row in shown] + [("", False)] * (room - len(shown))
        lines += [(_HELP[:width], False), (_MORE[:width], False)]
        return lines[:height]


_KEYS = {
    "KEY_DOWN": "down", "KEY_UP": "up", "KEY_NPAGE": "page down", "KEY_PPAGE": "page up",
    "KEY_BACKSPACE": "backspace", "\r": "\n", "KEY_ENTER": "\n",
}  # fmt: skip


def _run(window: "curses.window", live: Live) -> None:
    """Looks, draws and takes keys until the operator has enough."""
    import curses

    for prepare in (curses.use_default_colors, lambda: curses.curs_set(0)):
        with suppress(curses.error):  # a screen without colours, or one that shows its cursor
            prepare()
    due = 0.0
    while not live.done:
        if time.monotonic() >= due and not live.stopped:
            live.look()
            due = time.monotonic() + live.interval
        height, width = window.getmaxyx()
        window.erase()
        for number, (line, marked) in enumerate(live.draw(height, width)):
            # the last cell of the screen cannot be written without scrolling
            room = width - (number == height - 1)
            window.addnstr(number, 0, line, room, curses.A_REVERSE if marked else 0)
        window.refresh()
        left = live.interval if live.stopped else max(0.0, due - time.monotonic())
        window.timeout(int(1000 * left))
        try:
            key = window.getkey()
        except curses.error:
            continue  # time is over, or the size of the screen has changed
        if live.press(_KEYS.get(key, key)):
            due = 0.0


def _batch(choice: Choice, interval: float, count: int, state_dir: Path, as_json: bool) -> int:
    """Prints the table again and again."""
    if choice.view.begins_s:
        choice.view.ask(state_dir)
        time.sleep(choice.view.begins_s)
    for turn in repeat.turns(interval, count):
        rates = client.ask(state_dir, "rates")
        rows = choice.view.ask(state_dir)
        if as_json:
            look = {"at": round(time.time(), 3), "view": choice.view.name, "rates": rates}
            click.echo(orjson.dumps({**look, "rows": chosen(rows, choice)}))
            continue
        lines = ([""] if turn else []) + [head(rates), "", *table(rows, choice)]
        click.echo("\n".join(lines))
    return 0


@click.command("top")
@click.argument("view", default="workers", type=click.Choice(list(VIEWS)))
@click.option("--sort", metavar="COLUMN", help="Heading of the column to sort by, or its begin.")
@click.option("--reverse", is_flag=True, help="Sort the other way round.")
@click.option("--filter", "only", default="", metavar="TEXT", help="Only rows that have TEXT.")
@click.option("--batch", is_flag=True, help="Print tables instead of filling the screen.")
@repeat.every
@options.state_dir
@click.option("--json", "as_json", is_flag=True, help="As --batch; each look is a line of JSON.")
@options.says_why
@repeat.until_stopped
def command(
    view: str,
    sort: str | None,
    reverse: bool,
    only: str,
    batch: bool,
    interval: float,
    count: int,
    state_dir: Path,
    as_json: bool,
) -> int:
    """Show what the running node does, on a screen that is refreshed all the time.

    VIEW is workers, kinds (of packets), prefixes (who sends), clients (of the relay) or drops; the
    keys w k p c d change it. s sorts by the next column, S by the one before, r turns the order
    round, / filters, arrows scroll, + and - change the interval, space stops, q ends.

    Exit codes: 0 good, 3 usage, 4 no node answers, 5 permission.
    """
    choice = Choice(VIEWS[view], None, reverse, only)
    try:
        choice.sort = None if sort is None else find_column(choice.view, sort)
    except ValueError as error:
        click.echo(f"toxmesh: {error}", err=True)
        return USAGE
    if batch or as_json:
        return _batch(choice, interval, count, state_dir, as_json)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        click.echo("toxmesh: this is no screen; use --batch -n 1, or --json -n 1", err=True)
        return USAGE
    import curses

    client.ask(state_dir, "rates")  # who cannot be asked at all is said before the screen changes
    try:
        curses.wrapper(_run, Live(state_dir, choice, interval, count))
    except curses.error as error:
        click.echo(f"toxmesh: this screen cannot be used ({error}); try --batch", err=True)
        return USAGE
    return 0
