"""A node that hosts identities, for tests: its profiles and its settings file."""

from pathlib import Path

from core.entropy import SystemEntropy
from core.savedata.profile import Profile
from toxmesh.identity.profiles import SUFFIX, ProfileFile

SERVING = "dht=1,onion=1,relay=1"


def make_profile(folder: Path, name: str, passphrase: str = "") -> Profile:
    """Makes an identity; returns its profile."""
    folder.mkdir(mode=0o700, exist_ok=True)
    profile = Profile.generate(SystemEntropy(), name.encode())
    ProfileFile.create(folder / (name + SUFFIX), profile, passphrase)
    return profile


def settings(file: Path, folder: Path, *lines: str) -> tuple[str, str]:
    """Writes a settings file with a table of identities; returns the arguments that name it."""
    file.write_text("\n".join(["[identities]", f'directory = "{folder}"', *lines, ""]))
    return ("--config", str(file))
