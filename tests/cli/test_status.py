"""`toxmesh ops status` against a made-up node: verdicts, what a person sees, every way to fail."""

import json
import os
import re
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from core.packets import UDP_PACKETS
from core.packets.relay import FIRST_LINK, RELAY_PACKETS, RelayData
from ops import client, kinds, screen, status
from tests.cli.commands import call, spawn

GOOD: dict[str, Any] = {
    "node": {
        "public_key": "AB" * 32, "version": "0.1.0", "pid": 10, "started_s": 1.0, "uptime_s": 93784,
        "state": "good", "addresses": ["udp 0.0.0.0:33445", "tcp 0.0.0.0:33445"],
        "udp_port": 33445, "tcp_ports": [33445], "state_dir": "/var/lib/toxmesh",
    },
    "broker": {"role": "broker", "pid": 11, "state": "good", "core": 0, "restarts": 0, "queue": 0,
               "packets_per_s": 1234.4, "cpu_percent": 7.25, "rss": 1 << 20, "uptime_s": 59},
    "workers": [
        {"name": f"{role}.0", "role": role, "shard": 0, "pid": 20, "state": "good", "core": None,
         "restarts": 0, "queue": 3, "packets_per_s": 0.0, "cpu_percent": 1.0, "rss": 1 << 24,
         "uptime_s": 61}
        for role in ("dht", "onion")
    ],
    "totals": {"kinds": {"0x02": {"received": 7, "sent": 0},
                         "0x00": {"received": 12345, "sent": 1},
                         "0xee": {"received": 5, "sent": 0}, "0xef": {"received": 1}},
               "drops": {"rare": 1, "unknown_kind:0xee": 5, "queue_full": 9000,
                         "unknown_kind:0xef": 1}},
    "modules": {},
}  # fmt: skip


@contextmanager
def door(state: Path, reply: bytes | None, linger_s: float = 0.0) -> Iterator[list[bytes]]:
    """A control socket that answers one question with `reply`."""
    questions: list[bytes] = []
    directory = os.open(state, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{directory}/control.sock")
        listener.listen(1)
        finished = threading.Event()

        def serve() -> None:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                questions.append(peer.recv(4096))
                if reply is None:
                    finished.wait(10)
                else:
                    peer.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield questions
        finally:
            finished.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            os.close(directory)
            (state / "control.sock").unlink(missing_ok=True)


def envelope(answer: object, **changes: object) -> bytes:
    return json.dumps({"version": 1, "ok": True, "answer": answer, **changes}).encode() + b"\n"


def changed(**states: str) -> dict[str, Any]:
    answer = deepcopy(GOOD)
    for name, state in states.items():
        rows = {"node": answer["node"], "broker": answer["broker"], "dht": answer["workers"][0]}
        rows[name]["state"] = state
    return answer


NOBODY_WORKS = changed(dht="restarting")
NOBODY_WORKS["workers"][1]["state"] = "restarting"


@pytest.mark.parametrize(
    ("answer", "code", "word"),
    [
        (GOOD, 0, "good"),
        (changed(node="degraded"), 1, "degraded"),
        (changed(dht="restarting"), 1, "degraded"),
        (changed(dht="starting"), 1, "degraded"),
        (changed(broker="restarting"), 1, "degraded"),
        (changed(node="stopping"), 2, "down"),
        (NOBODY_WORKS, 2, "down"),
        ({}, 2, "down"),
    ],
)
def test_the_verdict_is_the_exit_code_with_and_without_json(
    answer: dict[str, Any], code: int, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with door(tmp_path, envelope(answer)) as questions:
        said = call(capsys, "ops", "status", "--state-dir", tmp_path)
    assert (said.code, said.err) == (code, "")
    assert said.out.splitlines()[0].endswith(f": {word}")
    assert json.loads(questions[0]) == {"version": 1, "request": "status"}
    with door(tmp_path, envelope(answer)):
        said = call(capsys, "ops", "status", "--json", "--state-dir", tmp_path)
    assert (said.code, json.loads(said.out)) == (code, answer)


def test_a_person_sees_workers_and_totals_in_columns() -> None:
    lines = status.page(GOOD)
    assert lines[0] == "toxmesh 0.1.0, process 10, is up 1 d 2 h: good"
    assert "key        " + "AB" * 32 in lines
    rows = [" ".join(line.split()) for line in lines]
    assert "broker good 11 0 0 1,234 7.2 % 1.0 MiB 0 59 s" in rows
    assert "dht.0 good 20 - 3 0 1.0 % 16.0 MiB 0 1 min 1 s" in rows
    assert rows.index("0x00 ping request 12,345 1") < rows.index("0x02 nodes request 7 0")
    assert rows.index("queue_full 9,000") < rows.index("rare 1")  # the most first
    assert "other no packet of Tox 6 0" in rows
    assert "unknown_kind 6" in rows


def test_kinds_bear_the_names_of_their_packet_classes() -> None:
    words = re.compile(r"[A-Z][a-z]*|[0-9]+")
    declared = {
        kind: ", ".join(" ".join(words.findall(packet.__name__)).lower() for packet in packets)
        for kind, packets in UDP_PACKETS.items()
    }
    assert declared == kinds.NAMES
    frames = {kind: packet.__name__ for kind, packet in RELAY_PACKETS.items()}
    frames[FIRST_LINK] = RelayData.__name__
    assert {kind: " ".join(words.findall(name)).lower() for kind, name in frames.items()} == (
        kinds.FRAMES
    )


def test_what_the_node_says_cannot_move_the_cursor() -> None:
    answer = deepcopy(GOOD)
    answer["node"]["version"] = "\x1b[2J"
    answer["workers"][0]["name"] = "a\nb\r\u202e"
    answer["totals"]["drops"] = {"\x07": 1}
    text = "".join(status.page(answer))
    assert text.isprintable()


@pytest.mark.parametrize("part", ["node", "broker", "workers", "totals"])
@pytest.mark.parametrize("value", [None, 3, "x", [], {}, [3], {"kinds": 3, "drops": [1]}])
def test_an_answer_of_another_shape_is_shown_as_far_as_it_goes(part: str, value: object) -> None:
    answer = {**deepcopy(GOOD), part: value}
    status.verdict(answer)
    assert status.page(answer)


@pytest.mark.parametrize(
    ("reply", "code", "words"),
    [
        (b"", 4, "closed the door"),
        (b"\n", 4, "closed the door"),
        (b"hello\n", 2, "no toxmesh node"),
        (b"[]\n", 2, "no toxmesh node"),
        (b"{}\n", 2, "no toxmesh node"),
        (b"[" * 100_000 + b"\n", 2, "no toxmesh node"),
        (envelope({}, version=2), 2, "speaks version 2"),
        (envelope({}, ok=False, error="no such request"), 2, "the node refused: no such request"),
        (envelope([1]), 2, "refused"),
    ],
)
def test_an_unusable_answer_is_one_sentence(
    reply: bytes, code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with door(tmp_path, reply):
        said = call(capsys, "ops", "status", "--state-dir", tmp_path)
    assert (said.code, said.out) == (code, "")
    assert words in said.err
    assert said.err.count("\n") == 1


def test_no_node_is_exit_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        said = call(capsys, "ops", "status", "--state-dir", place)
        assert said.code == 4
        assert "toxmesh run --state-dir" in said.err
    left = socket.socket(socket.AF_UNIX)  # a node that was killed leaves its socket behind
    directory = os.open(tmp_path, os.O_PATH)
    left.bind(f"/proc/self/fd/{directory}/control.sock")
    left.close()
    os.close(directory)
    assert call(capsys, "ops", "status", "--state-dir", tmp_path).code == 4


def test_no_permission_is_exit_5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object, **options: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(client, "connect", refuse)
    said = call(capsys, "ops", "status", "--state-dir", tmp_path)
    assert said.code == 5
    assert "sudo" in said.err


def test_a_node_that_hangs_is_given_up(tmp_path: Path) -> None:
    with door(tmp_path, None), pytest.raises(client.AskError, match="did not answer") as caught:
        client.ask(tmp_path, "status", timeout_s=0.05)
    assert caught.value.code == 4


def test_an_endless_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER", 1000)
    with door(tmp_path, b"x" * 5000), pytest.raises(client.AskError, match="longer than") as caught:
        client.ask(tmp_path, "status")
    assert caught.value.code == 2


def test_a_state_directory_with_a_very_long_name_can_be_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with door(deep, envelope(GOOD)):
        assert call(capsys, "ops", "status", "--state-dir", deep).code == 0


def test_a_pipe_gets_no_colour_and_a_screen_only_if_it_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with door(tmp_path, envelope(GOOD)):
        assert "\x1b" not in call(capsys, "ops", "status", "--state-dir", tmp_path).out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert screen.has_colour()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not screen.has_colour()
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert not screen.has_colour()


def test_ops_starts_fast_and_without_heavy_modules(tmp_path: Path) -> None:
    said = spawn("ops", "status", "--state-dir", tmp_path, options=("-X", "importtime"))
    assert said.code == 4
    loaded = {line.rsplit("|")[-1].strip() for line in said.err.splitlines() if "|" in line}
    heavy = ("zmq", "pydantic", "nacl", "psutil", "asyncio", "msgpack", "core", "toxmesh.settings")
    assert not loaded & set(heavy)
    times = []
    for _ in range(5):  # CPU time of the quickest: how busy the machine is does not count
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        spawn("ops", "status", "--state-dir", tmp_path)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.150, times


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3725, "1 h 2 min"), (90000, "1 d 1 h"),
     (None, "0 s"), ("x", "0 s"), (-4, "0 s")],
)  # fmt: skip
def test_spans_are_written_for_people(seconds: object, text: str) -> None:
    assert screen.span(seconds) == text
