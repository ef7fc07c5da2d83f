"""`toxmesh ops report`: everything about a node in one file, and none of its secrets."""

import base64
import dataclasses
import json
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.crypto import KeyPair
from core.link.logs import HIDDEN
from ops import client
from ops.report import gather
from tests.cli.commands import CHECKOUT, call
from tests.ops import shapes
from tests.ops.schema import differences
from tests.processes.node import Node, free_port
from toxmesh.remote.door import key_pair
from toxmesh.requests.report import LEFT_OUT, plain_settings
from toxmesh.settings import Settings

MASTER = bytes(range(7, 39))
ADDRESSES = ("127.0.0.5", "198.51.100.7", "2001:db8::9")
_LAUNCH = f"""
import secrets, sys
secrets.token_bytes = lambda count=32: bytes.fromhex("{MASTER.hex()}")[:count]
from toxmesh import cli
cli.main()
"""  # the master secret of the node is known to the test, and can be looked for


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    state = tmp_path_factory.mktemp("state") / "s"
    key = "AB" * 32
    line = [sys.executable, "-c", _LAUNCH, "run", "--dev", "--state-dir", str(state)]
    line += ["--listen", ADDRESSES[0], "--udp-port", str(free_port()), "--http", "off"]
    line += ["--bootstrap", f"{ADDRESSES[1]}:33445:{key}", "--tcp-port", "0"]
    line += ["--bootstrap", f"[{ADDRESSES[2]}]:33445:{key}", "--workers", "dht=1,onion=1,relay=0"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)
    try:
        yield Node(process, state)
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def unpacked(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        rows = {row.name.partition("/")[2]: tar.extractfile(row) for row in tar.getmembers()}
        return {name: stream.read() for name, stream in rows.items() if stream is not None}


def forms(secret: bytes) -> list[bytes]:
    """Returns a secret as it might be written."""
    text = secret.hex()
    coded = base64.b64encode(secret).rstrip(b"=")[:-1]
    lists = ", ".join(map(str, secret)), ",".join(map(str, secret))
    return [secret, text.encode(), text.upper().encode(), coded, *(row.encode() for row in lists)]


@pytest.mark.process
def test_a_report_has_everything_and_no_secret(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.tar.gz"
    said = call(capsys, "ops", "report", path, "--state-dir", node.state_dir)
    assert said.code == 0, said
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    files = unpacked(path)
    for name in files:
        assert name in said.out.splitlines()[1 + list(files).index(name)]
    assert said.out.endswith(f"written: {path}\n")
    assert {"README.txt", "versions.json", "settings.json", "system.json", "metrics.txt",
            "status.json", "log.jsonl", "log-levels.json"} <= set(files)  # fmt: skip
    assert json.loads(files["status.json"])["node"]["public_key"] == bytes(node.key).hex().upper()
    assert json.loads(files["settings.json"])["listen"] == [ADDRESSES[0]]
    assert b"toxmesh_build_info" in files["metrics.txt"]
    assert "net.core.rmem_max" in json.loads(files["system.json"])["kernel_settings"]
    assert os.uname().nodename not in json.loads(files["system.json"])["kernel"].split()
    own = KeyPair.from_secret((node.state_dir / "keys").read_bytes()[32:])
    secrets = [own.secret.reveal(), MASTER, key_pair(own).secret.reveal()]
    everything = b"".join(files.values()) + said.out.encode()
    for secret in secrets:
        assert [form for form in forms(secret) if form in everything] == []
    for address in ADDRESSES:
        assert address.encode() in everything  # unless one asks otherwise


@pytest.mark.process
def test_a_report_can_do_without_addresses(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.tar.gz"
    said = call(capsys, "ops", "report", path, "--redact", "--json", "--state-dir", node.state_dir)
    answer = json.loads(said.out)
    assert (answer["file"], answer["redacted"]) == (str(path), True)
    files = unpacked(path)
    assert {row["name"]: row["bytes"] for row in answer["contents"]} == {
        name: len(data) for name, data in files.items()
    }
    everything = b"".join(files.values())
    for address in ADDRESSES:
        assert address.encode() not in everything
    for packed in (bytes([198, 51, 100, 7]), bytes.fromhex("20010db8")):
        assert packed.hex().encode() not in everything.lower()
    assert HIDDEN.encode() in files["settings.json"]
    for name, data in files.items():
        if name.endswith(".json"):
            json.loads(data)


@pytest.mark.process
def test_facts_are_as_described_and_a_file_that_is_there_stays(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = client.ask(node.state_dir, "facts")
    assert differences(shapes.REQUESTS["facts"].answer, answer) == []
    path = tmp_path / "report.tar.gz"
    path.write_text("mine")
    said = call(capsys, "ops", "report", path, "--state-dir", node.state_dir)
    assert (said.code, "is there already" in said.err, path.read_text()) == (2, True, "mine")
    said = call(capsys, "ops", "report", tmp_path / "no" / "x", "--state-dir", node.state_dir)
    assert (said.code, "cannot be written" in said.err) == (2, True)
    assert call(capsys, "ops", "report", "--state-dir", tmp_path).code == 4


def test_a_setting_that_is_a_secret_is_left_out() -> None:
    made = dataclasses.make_dataclass(
        "Made", [("api_token", str, "hush")], bases=(Settings,), frozen=True
    )
    values = plain_settings(made(state_dir=Path("/s")))
    assert values["api_token"] == LEFT_OUT
    assert (values["state_dir"], values["listen"]) == ("/s", [])
    json.dumps(values)


def test_what_the_node_cannot_tell_is_named_and_the_rest_is_there() -> None:
    def ask(request: str, args: dict[str, Any]) -> dict[str, Any]:
        if request == "queues":
            raise client.AskError("the node refused: no", client.NOT_FOUND)
        if request == "facts":
            facts: dict[str, Any] = {"versions": {"toxmesh": "1"}, "settings": {}, "system": {}}
            return {**facts, "metrics": ""}
        return {"rows": [], "shown": 0}

    parts = {part.name: part.text for part in gather(ask, False)}
    assert "queues.json" not in parts
    assert "missing: queues.json: the node refused: no" in parts["README.txt"]
    assert "drops.json" in parts
