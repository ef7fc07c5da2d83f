"""Runs an operator's document: its console blocks in one shell, as a reader would type them.

A block fenced as `console` has commands behind `$ ` (further lines of one behind `> `), and below
each what it prints. `...` stands for whatever varies: in a line for a part of it, alone for any
number of lines. How wide columns are does not count. A command must end with 0, unless the next
one is `echo $?`. All of it is done by a user without rights: where root runs the tests, by another.

`python -m tests.ops.script docs/operations.md` shows what the commands print today.
"""

import os
import re
import select
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[2]
HOME = "/home/tox"  # as the document has it
STEP_S = 90.0  # for one command, on a busy machine
PORTS = ("33445", "33446", "33447", "9745")
"""In the document; the tests take free ones instead."""
_TASK = re.compile(r"## (?P<number>\d+)\. (?P<title>.+)\Z")
_MARK = "\x01"
_TOLD = 4000  # letters of what a command printed that did not end
_ASKS_CODE = "echo $?"
_NOBODY = 65534  # Linux: the user who owns nothing


class Step(NamedTuple):
    """One command, and the lines that it prints."""

    line: int
    command: str
    wanted: tuple[str, ...]


class Task(NamedTuple):
    """One numbered heading and its commands."""

    number: int
    title: str
    steps: tuple[Step, ...]


def read(text: str) -> list[Task]:
    """Returns the tasks of a document. Raises ValueError for a block that cannot be run."""
    tasks: list[Task] = []
    inside = False
    command: list[str] = []
    wanted: list[str] = []
    begin = 0

    def finish() -> None:
        if command:
            step = Step(begin, "\n".join(command), tuple(wanted))
            tasks[-1] = tasks[-1]._replace(steps=(*tasks[-1].steps, step))
            command.clear()
            wanted.clear()

    for number, line in enumerate(text.splitlines(), 1):
        heading = _TASK.match(line)
        if heading is not None and not inside:
            tasks.append(Task(int(heading["number"]), heading["title"], ()))
        elif line == "```console" and not inside:
            inside = True
            if not tasks:
                raise ValueError(f"line {number}: a block before the first task")
        elif line == "```" and inside:
            finish()
            inside = False
        elif inside and line.startswith("$ "):
            finish()
            command.append(line[2:])
            begin = number
        elif inside and command and not wanted and (line.startswith("> ") or line == ">"):
            command.append(line[2:])
        elif inside and command:
            wanted.append(line)
        elif inside:
            raise ValueError(f"line {number}: output before the first command")
    if inside:
        raise ValueError("the last block is not closed")
    return tasks


def _plain(line: str) -> str:
    return re.sub(r"\s+", " ", line).strip()


def fits(wanted: tuple[str, ...], found: str) -> bool:
    """Tells whether a command printed what the document has."""
    parts = []
    for line in wanted:
        if line.strip() == "...":
            parts.append(r"(?:[^\n]*\n)*?")
        else:
            pieces = _plain(line).split("...")
            parts.append("[^\n]*?".join(map(re.escape, pieces)) + "\n")
    text = "".join(_plain(line) + "\n" for line in found.splitlines())
    return re.fullmatch("".join(parts), text) is not None


class Done(NamedTuple):
    """What became of a step."""

    code: int
    out: str


class Shell:
    """One bash that is told command by command; what it starts ends with it."""

    def __init__(
        self,
        environment: Mapping[str, str],
        folder: Path,
        user: int | None = None,
        groups: tuple[int, ...] = (),
    ) -> None:
        script, self._commands = os.pipe()
        self._out, out = os.pipe()
        if user is not None:
            os.fchown(script, user, user)  # for bash opens it by its name
        self._process = subprocess.Popen(
            ["bash", f"/dev/fd/{script}"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=(script,),
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else groups,
        )
        os.close(script)
        os.close(out)

    def run(self, command: str, limit_s: float = STEP_S) -> Done:
        """Runs a command to its end. Raises TimeoutError with what it printed so far."""
        after = f"__code=$?; printf '{_MARK}%d\\n' $__code; (exit $__code)\n"
        os.write(self._commands, f"{command}\n{after}".encode())
        found, end = b"", time.monotonic() + limit_s
        while True:
            text = found.decode(errors="replace")
            marked = re.search(rf"{_MARK}(\d+)\n", text)
            if marked is not None:
                return Done(int(marked[1]), text[: marked.start()])
            ready, _, _ = select.select([self._out], [], [], max(0.0, end - time.monotonic()))
            part = os.read(self._out, 1 << 16) if ready else b""
            if not part:
                raise TimeoutError(f"{command!r} did not end; it printed: {text[-_TOLD:]}")
            found += part

    def close(self) -> None:
        """Ends the shell and all that it started."""
        os.close(self._commands)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        os.close(self._out)


def environment(home: Path) -> dict[str, str]:
    """Returns the variables of a new user, who has Python, this checkout and no network.

    Packages that toxmesh needs, and those that build it, are taken from where the tests have them.
    """
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to(sys.executable)
    (home / "toxmesh").symlink_to(CHECKOUT)
    return {
        "HOME": str(home),
        "PATH": f"{home}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "COLUMNS": "100",
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as the value, not as the option's name
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


@contextmanager
def new_home() -> Iterator[Path]:
    """Makes the home of a user without rights, where such a one can get to."""
    with tempfile.TemporaryDirectory(prefix="toxmesh-home-") as folder:
        yield Path(folder)


@contextmanager
def shell(home: Path, groups: tuple[int, ...] = ()) -> Iterator[Shell]:
    """Runs a shell in a new user's home until the block ends. `groups` are what the user is in
    besides, where it is another than the one who runs the tests."""
    variables = environment(home)
    user = None if os.geteuid() else _NOBODY
    if user is not None:
        for path in (home, home / "bin"):
            os.chown(path, user, user)
    made = Shell(variables, home, user, groups)
    try:
        yield made
    finally:
        made.close()


class Wrong(NamedTuple):
    """A command that did not do what the document says."""

    task: Task
    step: Step
    done: Done


def run(
    tasks: list[Task], home: Path, ports: Mapping[str, str], show: bool = False
) -> list[Wrong]:
    """Runs all tasks, with other ports than the document's; returns what went another way."""
    found: list[Wrong] = []

    def other_ports(text: str) -> str:
        for written, used in ports.items():
            text = re.sub(rf"\b{written}\b", used, text)
        return text

    def as_written(text: str) -> str:
        text = text.replace(str(home), HOME)
        for written, used in ports.items():
            text = re.sub(rf"\b{used}\b", written, text)
        return text

    with shell(home) as opened:
        for task in tasks:
            _say(f"\n## {task.number}. {task.title}", show)
            for step, after in zip(task.steps, (*task.steps[1:], None), strict=True):
                begin = time.monotonic()
                done = opened.run(other_ports(step.command))
                done = done._replace(out=as_written(done.out))
                asks = after is not None and after.command == _ASKS_CODE
                good = fits(step.wanted, done.out) and (asks or done.code == 0)
                took = time.monotonic() - begin
                _say(f"$ {step.command}\n{done.out}[{done.code}, {took:.1f} s]", show)
                if not good:
                    _say("^ NOT AS THE DOCUMENT HAS IT", show)
                    found.append(Wrong(task, step, done))
    return found


def _say(text: str, show: bool) -> None:
    if show:
        print(text, flush=True)


def main(path: str, only: str = "") -> int:
    """Shows what the commands of a document print."""
    from tests.processes.node import free_port

    tasks = read(Path(path).read_text("utf-8"))
    with new_home() as home:
        ports = {name: str(free_port()) for name in PORTS}
        wrong = run(tasks, home, ports, show=True)
    for row in wrong:
        print(f"line {row.step.line}: {row.step.command}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
