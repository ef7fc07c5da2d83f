"""Programs that the tests of the packaging use: the system's, else Debian's own, not installed."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.interop import peers
from tests.interop.peers import PeerMissing

PACKAGES = {
    "zsh": ("zsh", "zsh-common"),
    "fish": ("fish", "fish-common", "libpcre2-32-0"),
    "mandoc": ("mandoc",),
    "systemd-nspawn": ("systemd-container", "libsystemd-shared"),
    "debootstrap": ("debootstrap",),
}


@dataclass(frozen=True)
class Tool:
    """A program, and where its own files are: `/` if it is installed."""

    path: Path
    root: Path = Path("/")
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))


def find(name: str) -> Tool:
    """Returns a program. Raises PeerMissing where it can neither be found nor fetched."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is not None:
        return Tool(Path(found))
    root = peers.unpacked(f"tool-{name}", peers.codename(), PACKAGES[name])
    for folder in ("usr/bin", "bin", "usr/sbin"):
        path = root / folder / name
        if path.exists():
            libraries = [str(row.parent) for row in root.rglob("*.so*")]
            environment = dict(os.environ)
            environment["LD_LIBRARY_PATH"] = ":".join(dict.fromkeys(libraries))
            return Tool(path, root, environment)
    raise PeerMissing(f"no {name} in {root}")


def needed(name: str) -> Tool:
    """Returns a program for a test: in CI it must be there, elsewhere the test is left out."""
    try:
        return find(name)
    except PeerMissing as reason:
        missing(f"{name}: {reason}")
        raise


def missing(reason: str) -> None:
    """Ends a test that cannot run here: a failure in CI."""
    if os.environ.get("CI") or os.environ.get("TOXMESH_REQUIRE_PEERS"):
        pytest.fail(f"missing: {reason}")
    pytest.skip(f"missing: {reason}")
