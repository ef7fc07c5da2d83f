"""`toxmesh ops --remote`: a node asked from elsewhere, with keys that may read or act."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ops import client, remote
from tests.cli.commands import Said, call, spawn
from tests.ops import shapes
from tests.ops.schema import differences
from tests.processes.node import Node, running, until

pytestmark = pytest.mark.process


class Place(NamedTuple):
    """A node with a remote door, and the files of its operators."""

    node: Node
    files: dict[str, Path]
    where: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("remote")
    files, rows = {}, []
    for role in ("read", "full", "stranger"):
        files[role] = folder / f"{role}.toml"
        said = spawn("ops", "keys", "new", files[role])
        assert said.code == 0, said
        assert stat.S_IMODE(files[role].stat().st_mode) == 0o600
        line = said.out.strip()
        assert line.startswith('remote_operators = ["read:')
        if role != "stranger":
            rows.append(line.split('"')[1].replace("read:", f"{role}:"))
    settings = folder / "toxmesh.toml"
    settings.write_text(
        f'remote = "127.0.0.1:0"\nhttp = "off"\nremote_operators = {json.dumps(rows)}\n'
    )
    with running(folder / "s", "--config", str(settings), "--tcp-port", "0") as node:
        answer = until(lambda: _open_door(node), 20)
        yield Place(node, files, f"{answer['address']}:{answer['server_key']}")


def _open_door(node: Node) -> dict[str, str]:
    answer = client.ask(node.state_dir, "remote")
    assert differences(shapes.REQUESTS["remote"].answer, answer) == []
    return answer if answer["address"] else {}


@pytest.fixture(autouse=True)
def nobody_elsewhere() -> Iterator[None]:
    """The choice of a node is a process's; the next test asks the one of its directory again."""
    yield
    client.use_remote(None)


def ask(
    capsys: pytest.CaptureFixture[str], place: Place, role: str, *arguments: object, where: str = ""
) -> Said:
    options = ("--remote", where or place.where, "--key", place.files[role])
    return call(capsys, "ops", *options, *arguments)


def test_both_roles_see_the_node_and_one_of_them_acts(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    for role in ("read", "full"):
        said = ask(capsys, place, role, "status", "--json")
        assert said.code == 0, said
        assert json.loads(said.out)["node"]["public_key"] == bytes(place.node.key).hex().upper()
    pid = place.node.child("dht.0")["pid"]
    said = ask(capsys, place, "read", "worker", "restart", "dht.0")
    assert (said.code, "needs a key with the role full" in said.err) == (5, True)
    said = ask(capsys, place, "read", "log", "level", "all", "debug")
    assert said.code == 5
    assert place.node.child("dht.0")["pid"] == pid
    assert ask(capsys, place, "full", "worker", "restart", "dht.0").code == 0
    assert place.node.child("dht.0")["pid"] != pid


def test_a_key_that_reads_is_refused_all_that_docs_call_full(place: Place) -> None:
    remote.choose(place.where, place.files["read"])
    names = [name for name, row in shapes.REQUESTS.items() if row.full]
    assert {"log level", "worker restart", "reload"} <= set(names)
    for name in names:
        with pytest.raises(client.AskError, match="needs a key with the role full") as refused:
            client.ask(place.node.state_dir, name)
        assert refused.value.code == client.NO_PERMISSION


def test_an_unknown_key_a_wrong_server_key_and_no_node_are_told_apart(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ask(capsys, place, "stranger", "status")
    assert (said.code, "does not know your key" in said.err, said.out) == (5, True, "")
    drops = until(lambda: place.node.status()["totals"]["drops"].get("control_remote_key"), 5)
    assert drops >= 1
    address = place.where.rpartition(":")[0]
    said = ask(capsys, place, "read", "status", where=f"{address}:{'ab' * 32}")
    assert (said.code, "does not have that server key" in said.err) == (4, True)
    said = ask(capsys, place, "read", "status", where=f"127.0.0.1:1:{'ab' * 32}")
    assert (said.code, "no node answers at" in said.err) == (4, True)


def test_a_file_with_all_in_it_is_enough_and_bad_ones_are_said(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, _, key = place.where.rpartition(":")
    whole = tmp_path / "whole.toml"
    text = place.files["read"].read_text()
    whole.write_text(f'{text}address = "{address}"\nserver_key = "{key}"\n')
    said = call(capsys, "ops", "--remote", whole, "status")
    assert (said.code, "chmod 600" in said.err) == (5, True)
    whole.chmod(0o600)
    assert call(capsys, "ops", "--remote", whole, "status").code == 0
    for bad, why in (
        (f'{text}address = "{address}"\n', "the server key"),
        ('secret_key = "12"', "is not ADDRESS:PORT"),
        ("not toml", "no operator's file"),
    ):
        whole.write_text(bad)
        said = call(capsys, "ops", "--remote", whole, "status")
        assert (said.code, why in said.err) == (3, True)
    said = call(capsys, "ops", "--remote", tmp_path / "none.toml", "status")
    assert (said.code, "toxmesh ops keys new" in said.err) == (3, True)
    said = call(capsys, "ops", "keys", "new", whole)
    assert (said.code, "already" in said.err) == (2, True)


def test_the_door_is_shown_with_its_key_and_no_secret(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    said = call(capsys, "ops", "keys", "server", "--state-dir", place.node.state_dir)
    assert said.code == 0
    assert f"toxmesh ops --remote {place.where}" in said.out
    for path in place.files.values():
        secret = path.read_text().split('"')[1]
        assert len(secret) == 64
        assert secret not in said.out


def test_an_operator_elsewhere_upgrades_the_node_and_hears_of_it(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    pid = place.node.child("dht.0")["pid"]
    assert ask(capsys, place, "read", "upgrade").code == 5
    said = ask(capsys, place, "full", "upgrade", "--json")
    assert said.code == 0, said
    rows = {row["name"]: row for row in json.loads(said.out)["rows"]}
    assert rows["dht.0"]["was"] == pid
    assert ask(capsys, place, "read", "status").code == 0  # the process of the version before
    port = place.where.split(":")[1]
    client.use_remote(None)
    new = until(lambda: _moved(place.node, port), 20)
    assert ask(capsys, place, "read", "status", where=new).code == 0


def _moved(node: Node, port: str) -> str:
    answer = _open_door(node)
    if not answer or answer["address"].endswith(f":{port}"):
        return ""
    return f"{answer['address']}:{answer['server_key']}"
