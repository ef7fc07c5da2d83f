"""Files of identities, and the keys of those that are encrypted."""

from pathlib import Path

from core.entropy import SystemEntropy
from core.savedata.profile import Profile
from toxmesh.identity.profiles import ProfileFile


def test_the_key_of_a_file_is_made_once_as_long_as_its_passphrase_stays(tmp_path: Path) -> None:
    profile = Profile.generate(SystemEntropy(), b"one")
    path = tmp_path / "one.tox"
    file = ProfileFile.create(path, profile, "first")
    asked: list[str] = []

    def passphrase() -> str:
        asked.append("second")
        return asked[-1]

    with ProfileFile.taken(path, passphrase, file.key) as (taken, again):
        assert again == profile
        assert taken.key is file.key
    assert asked == []
    known = file.key
    file.change_passphrase(profile, "second")
    opened, again = ProfileFile.open(path, passphrase, known)
    assert again == profile
    assert opened.key is not known
    assert asked == ["second"]
