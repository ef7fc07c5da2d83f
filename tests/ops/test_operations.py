"""docs/operations.md: its commands exist, and the whole page runs as it stands there."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.ops import script
from tests.ops.script import CHECKOUT, Shell, Step, Task, fits, read
from tests.processes.node import free_port, gone, until
from toxmesh import cli

PAGE = CHECKOUT / "docs" / "operations.md"
TASKS = read(PAGE.read_text("utf-8"))
LEAST_TASKS = 30
_CALL = re.compile(r"(?:^|[\s|;&])toxmesh ([^|;&<>\n]*)")


def test_tasks_are_numbered_and_each_has_commands() -> None:
    assert [task.number for task in TASKS] == list(range(1, len(TASKS) + 1))
    assert len(TASKS) >= LEAST_TASKS
    assert all(task.steps for task in TASKS)


def calls() -> list[tuple[int, list[str]]]:
    """Returns each `toxmesh ...` of the page: its line and its words."""
    found = []
    for task in TASKS:
        for step in task.steps:
            for part in _parts(step.command):
                for match in _CALL.finditer(part):
                    words = match[1].replace("'", "").replace('"', "").split()
                    found.append((step.line, words))
    return found


def _parts(command: str) -> list[str]:
    """Takes a command and those inside of its $(...) apart."""
    command = command.replace("\\\n", " ")
    parts = []
    while (inner := re.search(r"\$\(([^()]*)\)", command)) is not None:
        parts.append(inner[1])
        command = f"{command[: inner.start()]}X{command[inner.end() :]}"
    return [*parts, command]


def check_call(line: int, words: list[str]) -> None:
    """Fails for a command or an option that there is not."""
    command: click.Command = cli.commands()
    rest = words
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, f"line {line}: toxmesh {shlex.join(words)}"
        command, rest = found, rest[1:]
    known = {"--help"} | {name for row in command.params for name in row.opts}
    for word in rest:
        option = word.partition("=")[0]
        if re.fullmatch(r"--?[a-z][a-z-]*", option):
            assert option in known, f"line {line}: {option} of {command.name}"


def test_every_command_and_option_of_the_page_exists() -> None:
    rows = calls()
    assert len(rows) > LEAST_TASKS
    for line, words in rows:
        check_call(line, words)


def names(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yields the words of every command that can be carried out."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from names(child, (*path, name))


def test_every_command_has_its_place_in_a_task() -> None:
    used = [tuple(words) for _, words in calls()]
    missing = [
        name
        for name in names(cli.commands())
        if not any(words[: len(name)] == name for words in used)
    ]
    assert missing == []


def test_the_readme_leads_there_and_names_commands_that_exist() -> None:
    text = (CHECKOUT / "README.md").read_text("utf-8")
    assert "(docs/operations.md)" in text
    rows = re.findall(r"`toxmesh ([^`]+)`", text)
    assert len(rows) > 10
    for row in rows:
        check_call(0, row.split())


@pytest.mark.slow
@pytest.mark.process
def test_the_whole_page_runs_as_it_stands_there_for_a_user_without_rights() -> None:
    ports = {name: str(free_port()) for name in script.PORTS}
    with script.new_home() as home:
        wrong = script.run(TASKS, home, ports)
    told = [
        f"line {row.step.line}: {row.step.command}\nprinted [{row.done.code}]:\n{row.done.out}"
        for row in wrong
    ]
    assert not told, "\n".join(told)


# The reader of such pages


def test_a_page_is_read() -> None:
    text = (
        "# Page\n\n```\nno console\n```\n## 1. One\n```console\n"
        "$ a <<END\n> b\n> END\nout\n> c\n$ d\n```\n## 2. Two\n"
    )
    assert read(text) == [
        Task(1, "One", (Step(8, "a <<END\nb\nEND", ("out", "> c")), Step(13, "d", ()))),
        Task(2, "Two", ()),
    ]


@pytest.mark.parametrize(
    "text",
    ["```console\n$ a\n```\n", "## 1. A\n```console\nout\n```\n", "## 1. A\n```console\n$ a\n"],
)
def test_a_page_that_cannot_be_run_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"line|last"):
        read(text)


@pytest.mark.parametrize(
    ("wanted", "found", "good"),
    [
        ("", "", True),
        ("a", "a\n", True),
        ("a", "b\n", False),
        ("a", "a\nb\n", False),
        ("a ... c", "a b c\n", True),
        ("a ... c", "a\nc\n", False),
        ("a   b", "a b\n", True),
        ("...", "", True),
        ("...\nb", "a\nb\n", True),
        ("...\nb", "a\nb\nc\n", False),
        ("a\n...\nb", "a\nb\n", True),
        ("a.b", "axb\n", False),
    ],
)
def test_output_is_compared_but_for_what_varies(wanted: str, found: str, good: bool) -> None:
    assert fits(tuple(wanted.splitlines()), found) is good


def test_a_shell_keeps_what_it_was_told_and_ends_what_it_started(tmp_path: Path) -> None:
    shell = Shell({"PATH": "/usr/bin:/bin"}, tmp_path)
    assert shell.run("A=7; sleep 1000 &") == (0, "")
    assert shell.run("echo $A; (exit $A)") == (7, "7\n")
    code, out = shell.run("echo $? $!")
    assert (code, out.split()[0]) == (0, "7")
    assert shell.run("cat <<END\nb\nEND\ncat") == (0, "b\n")  # nothing to be read: no hanging
    with pytest.raises(TimeoutError, match="early"):
        shell.run("echo early; sleep 1000", limit_s=0.3)
    shell.close()
    until(lambda: gone(int(out.split()[1])), 5)


def test_pages_are_run_by_a_user_without_rights() -> None:
    text = "## 1. A\n```console\n$ test $(id -u) -ne 0 -a -w ~ -a $(pwd) = ~\n```\n"
    with script.new_home() as home:
        assert script.run(read(text), home, {}) == []


def test_what_is_not_as_the_page_has_it_is_found() -> None:
    text = "$ echo 33445\n33445\n$ false\n$ false\n$ echo $?\n1\n$ echo a\nb\n"
    text = f"## 1. A\n```console\n{text}```\n"
    with script.new_home() as home:
        wrong = script.run(read(text), home, {"33445": "7"})
    assert [(row.step.line, row.done.code) for row in wrong] == [(5, 1), (9, 0)]
