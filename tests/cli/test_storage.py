"""The state directory and its files: whole or not at all, one owner, damage is set aside."""

import errno
import hashlib
import logging
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import endpoint
from core.wire import WireError
from tests.cli.commands import CHECKOUT, call
from toxmesh import storage

NODES = (
    (endpoint.from_text("192.0.2.1", 33445), bytes(range(32))),
    (endpoint.from_text("2001:db8::1", 1), bytes(32)),
)


def test_known_nodes_come_back(tmp_path: Path) -> None:
    assert storage.load_nodes(tmp_path) == ()
    assert storage.save_nodes(tmp_path, NODES)
    assert storage.load_nodes(tmp_path) == NODES
    assert storage.save_nodes(tmp_path, ())
    assert storage.load_nodes(tmp_path) == ()
    assert stat.S_IMODE((tmp_path / "nodes.db").stat().st_mode) == 0o600


def test_no_more_nodes_are_saved_than_are_read() -> None:
    many = NODES[:1] * (storage.MAX_SAVED_NODES + 5)
    assert len(storage.decode_nodes(storage.encode_nodes(many))) == storage.MAX_SAVED_NODES
    row = NODES[0][1] + endpoint.pack_compact(NODES[0][0])
    body = storage.NODES_MAGIC + row * (storage.MAX_SAVED_NODES + 1)
    with pytest.raises(WireError, match="more than 4096"):
        storage.decode_nodes(body + hashlib.sha256(body).digest())


@given(st.data())
def test_s04_any_flipped_bit_or_cut_is_noticed(data: st.DataObject) -> None:
    whole = storage.encode_nodes(NODES)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(whole) * 8 - 1))
        broken = bytearray(whole)
        broken[at // 8] ^= 1 << at % 8
        bad = bytes(broken)
    else:
        bad = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(WireError):
        storage.decode_nodes(bad)


@given(st.binary(max_size=200))
def test_s04_any_body_with_a_right_checksum_is_nodes_or_a_named_error(tail: bytes) -> None:
    body = storage.NODES_MAGIC + tail
    try:
        nodes = storage.decode_nodes(body + hashlib.sha256(body).digest())
    except WireError:
        return
    assert storage.decode_nodes(storage.encode_nodes(nodes)) == nodes


def test_a_damaged_file_is_set_aside_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for text in (b"damaged", b"damaged again"):
        (tmp_path / "nodes.db").write_bytes(text)
        with caplog.at_level(logging.WARNING):
            assert storage.load_nodes(tmp_path) == ()
        assert (tmp_path / "nodes.db.damaged").read_bytes() == text
        assert not (tmp_path / "nodes.db").exists()
    assert "set aside" in caplog.text
    assert storage.load_nodes(tmp_path) == ()


def test_a_link_or_directory_in_the_place_of_the_nodes_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage.save_nodes(tmp_path, NODES)
    (tmp_path / "nodes.db").rename(tmp_path / "elsewhere")
    (tmp_path / "nodes.db").symlink_to("elsewhere")
    assert storage.load_nodes(tmp_path) == ()
    (tmp_path / "nodes.db").unlink()
    (tmp_path / "nodes.db").mkdir()
    assert storage.load_nodes(tmp_path) == ()
    assert len(caplog.records) == 2


def test_a_full_disk_keeps_the_old_file_and_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage.save_nodes(tmp_path, NODES)

    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    assert not storage.save_nodes(tmp_path, NODES[:1])
    monkeypatch.undo()
    assert storage.load_nodes(tmp_path) == NODES
    assert [entry.name for entry in tmp_path.iterdir()] == ["nodes.db"]
    assert "no space left" in caplog.text


_WRITER = """
import sys
from pathlib import Path
from core import endpoint
from toxmesh import storage
place = endpoint.from_text("192.0.2.1", 1)
print("go", flush=True)
turn = 0
while True:
    turn += 1
    storage.save_nodes(Path(sys.argv[1]), [(place, turn.to_bytes(32, "big"))] * 2000)
"""


def test_killing_the_writer_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    for round_ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)], cwd=CHECKOUT, stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        while not (tmp_path / "nodes.db").exists():
            assert writer.poll() is None
        before = (tmp_path / "nodes.db").stat().st_mtime_ns
        while (tmp_path / "nodes.db").stat().st_mtime_ns == before and round_ % 2:
            assert writer.poll() is None
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        nodes = storage.load_nodes(tmp_path)
        assert len(nodes) == 2000
        assert len(set(nodes)) == 1
        assert not (tmp_path / "nodes.db.damaged").exists()


def test_create_never_overwrites_and_works_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.create(tmp_path / "a", b"first")
    with pytest.raises(FileExistsError):
        storage.create(tmp_path / "a", b"second")

    def unable(*arguments: object, **options: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", unable)
    with pytest.raises(FileExistsError):
        storage.create(tmp_path / "a", b"third")
    storage.create(tmp_path / "b", b"fourth")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert (tmp_path / "b").read_bytes() == b"fourth"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "b"]


def test_two_nodes_cannot_share_a_state_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = storage.StateDirectory(tmp_path / "state")
    first.make()
    first.lock()
    said = call(capsys, "run", "--state-dir", tmp_path / "state")
    assert (said.code, said.out) == (3, "")
    assert f"another node (process {os.getpid()}) uses the state directory" in said.err
    first.unlock()
    again = storage.StateDirectory(tmp_path / "state")
    again.lock()
    again.unlock()


def test_a_directory_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/lock").symlink_to(tmp_path / "file")
    for place, words in (
        (tmp_path / "file", "is not a directory"),
        (tmp_path / "file/below", "cannot be used"),
        (tmp_path / "open", "chmod o-w"),
        (tmp_path / "linked", "lock cannot be opened"),
    ):
        said = call(capsys, "run", "--state-dir", place)
        assert said.code == 3, said
        assert words in said.err
        assert said.err.count("\n") == 1


def test_a_directory_of_somebody_else_is_exit_5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object, **options: object) -> int:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "mkdir", refuse)
    for command in ("keys generate", "run"):
        said = call(capsys, *command.split(), "--state-dir", tmp_path / "new")
        assert said.code == 5, said
        assert "--state-dir" in said.err
    monkeypatch.undo()
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(storage.StorageError) as caught:
        storage.StateDirectory(tmp_path).lock()
    assert caught.value.code == 5
