"""The keys file: how it is made, what is refused, and that the secret half is never shown."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from core.crypto import KeyPair
from tests.cli.commands import call, spawn
from toxmesh import cli, keys

PAIR = KeyPair.from_secret(bytes(range(32)))
DATA = bytes(PAIR.public) + PAIR.secret.reveal()
NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for two users")


def put(path: Path, data: bytes = DATA, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_s28_keys_are_made_for_the_owner_alone_whatever_the_umask(
    umask: int, tmp_path: Path
) -> None:
    state = tmp_path / "new" if umask < 0o700 else tmp_path
    before = os.umask(umask)
    try:
        if umask < 0o700:
            said = spawn("keys", "generate", "--state-dir", state, umask=umask)
            assert said.code == 0, said.err
        else:
            keys.generate(state / "keys")
    finally:
        os.umask(before)
    found = (state / "keys").stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_size == 64
    if umask < 0o700:
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
    pair = keys.load(state / "keys")
    assert (state / "keys").read_bytes() == bytes(pair.public) + pair.secret.reveal()
    assert [entry.name for entry in state.iterdir()] == ["keys"]


def test_show_prints_the_public_key_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "keys")
    said = call(capsys, "keys", "show", "--state-dir", tmp_path)
    assert said == (0, PAIR.public.hex().upper() + "\n", "")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o644])
def test_s28_a_file_others_can_open_is_refused_with_the_mending_command(
    mode: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(tmp_path / "keys", mode=mode)
    for command in ("keys show", "run"):
        said = call(capsys, *command.split(), "--state-dir", tmp_path)
        assert (said.code, said.out) == (3, "")
        assert f"run: chmod 600 '{path}'" in said.err
        assert said.err.count("\n") == 1


def test_s28_a_symbolic_link_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "real")
    (tmp_path / "keys").symlink_to(tmp_path / "real")
    for command in ("keys show", "run"):
        said = call(capsys, *command.split(), "--state-dir", tmp_path)
        assert said.code == 3
        assert "is a symbolic link" in said.err
    (tmp_path / "real").unlink()  # a dangling link is not filled by a first start either
    said = call(capsys, "run", "--state-dir", tmp_path)
    assert said.code == 3
    assert not (tmp_path / "real").exists()


def test_keys_are_not_written_through_a_symbolic_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "keys").symlink_to(victim)
    assert call(capsys, "keys", "generate", "--state-dir", tmp_path).code == 3
    assert call(capsys, "keys", "generate", "--force", "--state-dir", tmp_path).code == 0
    assert victim.read_text() == "precious"
    assert not (tmp_path / "keys").is_symlink()


def open_way(path: Path) -> None:
    """Lets every user walk to `path` through the folders that pytest has made."""
    made = Path(tempfile.gettempdir())
    for folder in (path, *path.parents):
        if folder.is_relative_to(made) and folder != made:
            folder.chmod(0o755)


@as_root
def test_s28_a_file_of_another_user_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.chown(put(tmp_path / "keys"), NOBODY, NOBODY)
    said = call(capsys, "keys", "show", "--state-dir", tmp_path)
    assert said.code == 3
    assert "belongs to user 65534" in said.err


@as_root
def test_an_unreadable_file_is_one_sentence_and_exit_3(tmp_path: Path) -> None:
    open_way(tmp_path)
    put(tmp_path / "keys")
    pid = os.fork()
    if pid == 0:  # a child of another user, with the modules loaded already
        os.setuid(NOBODY)
        try:
            keys.load(tmp_path / "keys")
        except keys.KeysError as error:
            os._exit(3 if "cannot be read by this user" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


@as_root
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("ops", "status"), 5),
        (("keys", "generate"), 5),
        (("keys", "import", "/etc/passwd"), 3),  # that is no keys file, which is seen first
        (("run", "--dev"), 5),
        (("keys", "show"), 5),
    ],
)
def test_a_state_directory_of_another_user_is_exit_5(
    command: tuple[str, ...], code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    open_way(tmp_path)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    put(tmp_path / "file")
    for loads in (("ops", "status"), ("keys", "generate"), ("run", "--dev")):
        cli.run([*loads, "--state-dir", str(tmp_path / "file")])  # modules NOBODY may not read
    pid = os.fork()
    if pid == 0:
        os.setuid(NOBODY)
        os._exit(cli.run([*command, "--state-dir", str(state)]))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
    assert "Usage:" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "has 0 bytes, not 64"),
        (DATA[:63], "has 63 bytes"),
        (DATA + b"\n", "has more than 64 bytes"),
        (DATA[32:] + DATA[:32], "do not belong together"),
        (bytes([DATA[0] ^ 1]) + DATA[1:], "do not belong together"),
        (bytes(64), "do not belong together"),
    ],
)
def test_a_damaged_file_is_refused(
    data: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "keys", data)
    said = call(capsys, "keys", "show", "--state-dir", tmp_path)
    assert said.code == 3
    assert words in said.err
    assert (tmp_path / "keys").read_bytes() == data  # nothing is mended behind anybody's back
    other = tmp_path / "other"
    said = call(capsys, "keys", "import", tmp_path / "keys", "--state-dir", other)
    assert said.code == 3
    assert not (other / "keys").exists()
    assert "--force" not in said.err  # that would lose keys for a file that was named by mistake


def test_a_fifo_or_directory_in_the_place_of_the_keys_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "keys", 0o600)
    said = call(capsys, "keys", "show", "--state-dir", tmp_path)
    assert said.code == 3
    assert "not a regular file" in said.err
    (tmp_path / "keys").unlink()
    (tmp_path / "keys").mkdir()
    assert call(capsys, "keys", "show", "--state-dir", tmp_path).code == 3


def test_keys_are_never_overwritten_without_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "keys")
    source = put(tmp_path / "old")
    for command in (("generate",), ("import", source)):
        said = call(capsys, "keys", *command, "--state-dir", tmp_path)
        assert said.code == 3
        assert "--force" in said.err
        assert (tmp_path / "keys").read_bytes() == DATA
    said = call(capsys, "keys", "generate", "--force", "--state-dir", tmp_path)
    assert said.code == 0
    assert (tmp_path / "keys").read_bytes() != DATA
    said = call(capsys, "keys", "import", source, "--force", "--state-dir", tmp_path)
    assert (said.code, said.out) == (0, PAIR.public.hex().upper() + "\n")
    assert (tmp_path / "keys").read_bytes() == DATA


def test_keys_of_tox_bootstrapd_are_brought_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = put(tmp_path / "bootstrapd", mode=0o644)  # however it was copied here
    state = tmp_path / "state"
    assert call(capsys, "keys", "import", source, "--state-dir", state).code == 0
    assert keys.load(state / "keys").public == PAIR.public
    assert stat.S_IMODE((state / "keys").stat().st_mode) == 0o600
    said = call(capsys, "keys", "import", tmp_path / "nowhere", "--state-dir", tmp_path / "x")
    assert said.code == 3
    assert "name the file to import" in said.err


def test_s28_no_command_prints_the_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "keys")
    secret = PAIR.secret.reveal()
    said = [
        call(capsys, "keys", "show", "--state-dir", tmp_path),
        call(capsys, "keys", "generate", "--state-dir", tmp_path),
        call(capsys, "keys", "import", tmp_path / "keys", "--state-dir", tmp_path / "b"),
        call(capsys, "ops", "status", "--state-dir", tmp_path),
    ]
    text = "".join(row.out + row.err for row in said).lower()
    assert PAIR.public.hex() in text
    assert secret.hex() not in text
    assert secret.hex()[:16] not in text
    assert repr(keys.load(tmp_path / "keys")).count(repr(secret)) == 0
