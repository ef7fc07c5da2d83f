"""The manual pages say what --help says, all of it, in roff that the formatters take."""

import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from tests.cli.commands import call
from tests.packaging.tools import needed
from toxmesh import cli, manual, settings_help
from toxmesh.settings_file import Model, load
from toxmesh.settings_tables import IdentitiesTable, WorkersTable

DAY = 1_700_000_000  # 2023-11-14


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return manual.pages(cli.commands(), DAY)


def plain(roff: str) -> str:
    """Returns a page's words without the language around them."""
    text = re.sub(r"\\f[BR]|\\&", "", roff).replace("\\-", "-").replace("\\e", "\\")
    text = re.sub(r"^\.(PP|TP|nf|fi|nh|ad l)$", "", text, flags=re.MULTILINE)
    return " ".join(text.split())


def tree(command: click.Command, names: tuple[str, ...]) -> list[tuple[str, ...]]:
    found = [names]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            found += tree(child, (*names, name))
    return found


def test_every_command_has_a_page_with_its_options_and_words(pages: dict[str, str]) -> None:
    root = cli.commands()
    for names in tree(root, ("toxmesh",)):
        page = plain(pages["-".join(names) + ".1"])
        command: click.Command | None = root
        context = click.Context(root, info_name="toxmesh")
        for name in names[1:]:
            assert isinstance(command, click.Group)
            command = command.get_command(context, name)
        assert command is not None
        words = " ".join((command.help or "").replace("\b", "").replace("`", "").split())
        assert words in page
        for parameter in command.params:
            record = parameter.get_help_record(context)
            if record is not None:
                assert record[0] in page
                assert " ".join(record[1].replace("`", "").split()) in page
        assert "0 good" in page or "Exit codes:" in page


def test_every_setting_is_in_the_manual_with_kind_and_default(pages: dict[str, str]) -> None:
    page = plain(pages["toxmesh.toml.5"])
    names = set(Model.model_fields) - {"dev", "workers", "identities"}
    names |= {f"identities.{name}" for name in IdentitiesTable.model_fields}
    names |= {f"workers.{name}" for name in WorkersTable.model_fields}
    assert names == set(settings_help.HELP)  # a new setting needs a line there
    assert names == {row.name for row in settings_help.settings()}
    for row in settings_help.settings():
        assert f"{row.name} {row.text}".replace("`", "") in page
    rows = {row.name: row for row in settings_help.settings()}
    assert rows["udp_port"].kind == "whole number from 0 to 65535"
    assert rows["tcp_ports"].kind == "list of whole numbers"
    assert rows["listen"].kind == rows["bootstrap"].kind == "list of texts"
    assert rows["lan_discovery"].kind == "true or false"
    assert rows["log_format"].kind == '"auto" or "text" or "json"'
    assert rows["relay_per_address"].default == "`64`"


def test_the_settings_file_to_begin_with_is_good_and_so_is_every_line_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = call(capsys, "config", "example")
    assert said.code == 0
    file = tmp_path / "toxmesh.toml"
    file.write_text(said.out)
    assert load(file).settings == load().settings
    lines = [re.sub(r"^#(?! )", "", line) for line in said.out.splitlines()]
    text = re.sub(r'^#  "', '  "', "\n".join(lines), flags=re.MULTILINE)
    file.write_text(text)
    assert set(tomllib.loads(text)) == set(Model.model_fields) - {"dev"}
    assert load(file).settings.udp_port == 33445


def test_text_that_roff_would_take_for_its_own_is_escaped() -> None:
    assert manual.escape(".TH is no -macro\n'here\\") == "\\&.TH is no \\-macro\n\\&'here\\e"
    assert manual.escape("run `toxmesh` now") == "run \\fBtoxmesh\\fR now"


def test_pages_are_the_same_each_time_and_bear_the_given_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(DAY))
    said = call(capsys, "man", tmp_path)
    assert said.code == 0
    written = {path.name: path.read_text() for path in tmp_path.rglob("*.[15]")}
    assert written == manual.pages(cli.commands(), DAY)
    assert {path.parent.name for path in tmp_path.rglob("*.5")} == {"man5"}
    assert '"2023-11-14"' in written["toxmesh.1"]


def test_a_directory_that_cannot_be_written_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "man1").touch()
    said = call(capsys, "man", tmp_path)
    assert said.code == 3
    assert "cannot be written" in said.err


@pytest.mark.process
def test_formatters_have_nothing_to_complain_of(pages: dict[str, str], tmp_path: Path) -> None:
    mandoc = needed("mandoc")
    man = needed("man")
    for name, page in pages.items():
        file = tmp_path / name
        file.write_text(page)
        for command, tool in (
            ([str(mandoc.path), "-Tlint", "-Wwarning", name], mandoc),
            ([str(man.path), "--warnings=w", "--local-file", f"./{name}"], man),
        ):
            done = subprocess.run(
                command,
                cwd=tmp_path,
                env={**tool.environment, "MANPAGER": "cat", "MANWIDTH": "80"},
                capture_output=True,
                text=True,
                timeout=60,
            )
            said = done.stderr + (done.stdout if "-Tlint" in command else "")
            assert (done.returncode, said) == (0, ""), name
