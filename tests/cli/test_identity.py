"""`toxmesh identity`: profiles on disk, with and without passphrase, by one sentence or by JSON."""

import os
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest

from core.entropy import SystemEntropy
from core.savedata import encrypted
from core.savedata.file import read, write
from core.savedata.profile import Profile
from core.tox_id import ToxId
from tests.cli.commands import Said, call, spawn
from toxmesh.identity.mailbox import Mailbox
from toxmesh.identity.profiles import ProfileError, ProfileFile, Profiles


class Shell:
    """Runs `toxmesh identity` for one state directory."""

    def __init__(self, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state = state
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Said:
        return call(self._capsys, "identity", *arguments, "--state-dir", self.state)

    def json(self, *arguments: object) -> Any:
        said = self(*arguments, "--json")
        assert said.code == 0, said.err
        return orjson.loads(said.out)

    def file(self, name: str) -> Path:
        return self.state / "identities" / f"{name}.tox"


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "state", capsys)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words"
    path.write_text("correct horse\nnot read\n")
    return path


def test_an_identity_is_made_shown_and_listed(shell: Shell) -> None:
    said = shell("create", "echo", "--nick", "Echo Bot")
    assert said.code == 0
    tox_id = ToxId.parse(said.out)
    assert stat.S_IMODE(shell.file("echo").stat().st_mode) == 0o600
    assert stat.S_IMODE(shell.file("echo").parent.stat().st_mode) == 0o700
    profile = read(shell.file("echo").read_bytes())
    assert (profile.tox_id, profile.name) == (tox_id, b"Echo Bot")
    assert shell.json("show", "echo") == {
        "name": "echo",
        "tox_id": str(tox_id),
        "public_key": tox_id.key.hex().upper(),
        "nick": "Echo Bot",
        "status_message": "",
        "status": "online",
        "encrypted": False,
        "friends": [],
    }
    assert shell("show", "echo").out.splitlines()[0].split() == ["tox", "id", str(tox_id)]
    assert shell.json("list") == {
        "rows": [
            {
                "name": "echo",
                "encrypted": False,
                "tox_id": str(tox_id),
                "nick": "Echo Bot",
                "friends": 0,
                "error": None,
            }
        ],
        "total": 1,
        "shown": 1,
    }
    assert shell("list").out.split() == ["echo", str(tox_id)]


def test_none_that_is_there_is_lost_by_accident(shell: Shell, tmp_path: Path) -> None:
    shell("create", "one")
    before = shell.file("one").read_bytes()
    said = shell("create", "one")
    assert (said.code, said.out) == (3, "")
    assert "; give another name, or take it away with: toxmesh identity remove one" in said.err
    source = tmp_path / "one.tox"
    source.write_bytes(write(Profile.generate(SystemEntropy())))
    said = shell("import", source)
    assert said.code == 3
    assert "there is an identity 'one' already" in said.err
    assert shell("remove", "one").code == 3
    assert shell.file("one").read_bytes() == before
    assert shell("import", source, "--force").code == 0
    assert shell.file("one").read_bytes() == source.read_bytes()
    target = tmp_path / "there"
    target.write_bytes(b"mine")
    assert shell("export", "one", target).code == 3
    assert target.read_bytes() == b"mine"
    assert shell("export", "one", target, "--force").code == 0
    assert target.read_bytes() == source.read_bytes()


def test_messages_of_an_identity_before_are_not_handed_on(shell: Shell, tmp_path: Path) -> None:
    friend = bytes(range(1, 33))

    def box(of: Profile) -> Mailbox:
        return Mailbox(shell.file("one").with_suffix(".messages"), of.keys.secret)

    first, second = (Profile.generate(SystemEntropy()) for _ in range(2))
    sources = [tmp_path / "first.tox", tmp_path / "second.tox"]
    for source, profile in zip(sources, (first, second), strict=True):
        source.write_bytes(write(profile))
    shell("import", sources[0], "one")
    box(first).receive(friend, 0, b"for the first", 1.0)
    said = shell("import", sources[0], "one", "--force")  # the same comes back: they are its own
    assert "alone can read" not in said.err
    for number in (1, 2):
        said = shell("import", sources[number % 2], "one", "--force")
        there = shell.file("one").with_name(f"one.messages.old-{number}")
        assert said.code == 0
        assert f"are in {there} now; that identity alone can read them" in said.err
        now = (first, second)[number % 2]
        assert box(now).received() == []
        box(now).receive(friend, 0, b"for it", 1.0)
        before = (first, second)[number - 1]
        assert len(Mailbox(there, before.keys.secret).received()) == 1
    shell.file("one").unlink()
    assert "messages of the identity that was here" in shell("create", "one").err


def test_an_encrypted_one_stays_encrypted_from_import_to_export(
    shell: Shell, tmp_path: Path, words: Path
) -> None:
    profile = Profile.generate(SystemEntropy(), b"Alice")
    source = tmp_path / "alice.tox"
    source.write_bytes(encrypted.encrypt(write(profile), "correct horse", SystemEntropy()))
    assert shell("import", source).code == 3  # nobody sits there to be asked
    assert not shell.file("alice").exists()
    said = shell("import", source, "--passphrase-file", words)
    assert (said.code, ToxId.parse(said.out)) == (0, profile.tox_id)
    assert shell.json("list")["rows"][0]["encrypted"] is True
    assert "encrypted" in shell("list").out
    assert shell("show", "alice").code == 3
    assert shell.json("show", "alice", "--passphrase-file", words)["nick"] == "Alice"
    out, plain = tmp_path / "out.tox", tmp_path / "plain.tox"
    assert shell("export", "alice", out, "--passphrase-file", words).code == 0
    assert read(encrypted.decrypt(out.read_bytes(), "correct horse")) == profile
    assert shell("export", "alice", plain, "--plain", "--passphrase-file", words).code == 0
    assert read(plain.read_bytes()) == profile
    assert stat.S_IMODE(plain.stat().st_mode) == 0o600


def test_a_wrong_passphrase_is_said_and_changes_nothing(
    shell: Shell, tmp_path: Path, words: Path
) -> None:
    shell("create", "one", "--passphrase-file", words)
    before = shell.file("one").read_bytes()
    assert encrypted.is_encrypted(before)
    wrong = tmp_path / "wrong"
    wrong.write_text("horse\n")
    for command in (["show"], ["nospam"], ["passphrase", "--none"]):
        said = shell(command[0], "one", *command[1:], "--passphrase-file", wrong)
        assert said.code == 3
        assert "the passphrase is wrong, or the file is damaged" in said.err
    empty = tmp_path / "empty"
    empty.write_text("\n")
    assert "is empty" in shell("show", "one", "--passphrase-file", empty).err
    assert "cannot be read" in shell("show", "one", "--passphrase-file", tmp_path / "no").err
    assert shell.file("one").read_bytes() == before


def test_the_passphrase_can_be_set_changed_and_taken_away(
    shell: Shell, tmp_path: Path, words: Path
) -> None:
    tox_id = shell("create", "one").out
    other = tmp_path / "other"
    other.write_text("battery\n")
    assert shell("passphrase", "one", "--new-file", words).code == 0
    changing = ("--passphrase-file", words, "--new-file", other)
    assert shell("passphrase", "one", *changing).code == 0
    assert shell("show", "one", "--passphrase-file", words).code == 3
    assert shell("passphrase", "one", "--passphrase-file", other, "--none").code == 0
    assert str(read(shell.file("one").read_bytes()).tox_id) == tox_id.strip()
    both = shell("passphrase", "one", "--none", "--new-file", words)
    assert "exclude each other" in both.err


def test_another_nospam_is_another_tox_id_of_the_same_key(shell: Shell) -> None:
    first = ToxId.parse(shell("create", "one").out)
    second = ToxId.parse(shell("nospam", "one").out)
    assert first.key == second.key
    assert first.nospam != second.nospam
    assert shell.json("show", "one")["tox_id"] == str(second)


def test_one_that_another_process_uses_is_left_alone(shell: Shell) -> None:
    shell("create", "one")
    path = shell.file("one")
    before = path.read_bytes()
    with ProfileFile(path).locked():
        for command in (["nospam", "one"], ["remove", "one", "--yes"]):
            said = spawn("identity", *command, "--state-dir", shell.state)
            assert said.code == 2
            assert f"another process uses {path}; stop it first" in said.err
    assert path.read_bytes() == before
    assert shell("remove", "one", "--yes").code == 0
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "a/b", "..", "x" * 65, "zwölf"])
def test_names_that_are_no_file_names_are_refused(shell: Shell, name: str) -> None:
    said = shell("create", "--", name) if name.startswith("-") else shell("create", name)
    assert said.code == 3
    assert "is no name for an identity" in said.err or "Usage" in said.err
    assert not (shell.state / "identities").exists()


def test_what_is_missing_is_said_with_what_is_there(shell: Shell, tmp_path: Path) -> None:
    said = shell("show", "nobody")
    assert said.code == 1
    assert "there are: none. Make one with: toxmesh identity create nobody" in said.err
    shell("create", "one")
    assert "there are: one." in shell("show", "nobody").err
    assert shell("import", tmp_path / "no.tox").code == 1
    folder = shell("import", tmp_path)
    assert (folder.code, folder.out) == (3, "")
    assert folder.err == f"toxmesh: {tmp_path} is not a regular file; name the profile itself\n"
    assert shell.json("list")["total"] == 1


def test_damaged_files_are_named_and_the_rest_is_listed(shell: Shell) -> None:
    shell("create", "good")
    shell.file("bad").write_bytes(shell.file("good").read_bytes()[:50])
    rows = {row["name"]: row for row in shell.json("list")["rows"]}
    assert "damaged" in rows["bad"]["error"]
    assert rows["good"]["error"] is None
    said = shell("show", "bad")
    assert said.code == 3
    assert "bring back a copy of it" in said.err


def test_a_nick_that_no_client_could_show_is_refused(shell: Shell) -> None:
    said = shell("create", "one", "--nick", "ö" * 65)
    assert said.code == 3
    assert "at most 128 bytes, and this one 130" in said.err
    assert not shell.file("one").exists()


def test_a_full_disk_leaves_the_old_file(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell("create", "one")
    before = shell.file("one").read_bytes()

    def full(handle: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    file, profile = ProfileFile.open(shell.file("one"))
    with pytest.raises(ProfileError, match="cannot be written: no space left on device"):
        file.save(profile)
    with pytest.raises(ProfileError, match="no space left"):
        file.change_passphrase(profile, "new")
    assert file.key is None
    monkeypatch.undo()
    assert shell.file("one").read_bytes() == before
    assert os.listdir(Profiles(shell.state).folder) == ["one.tox"]


def test_secrets_are_in_no_output(shell: Shell) -> None:
    commands = ("create one", "show one", "show one --json", "list --json")
    said = [shell(*command.split()) for command in commands]
    secret = read(shell.file("one").read_bytes()).keys.secret.reveal().hex()
    for one in said:
        assert secret not in (one.out + one.err).lower()
