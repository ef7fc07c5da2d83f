"""Finds the reference implementation, in the versions the tests want, without changing the system.

A library that Debian has installed is taken as it is. Every other version comes from the Debian
suite that has it: apt fetches the packages, from a private copy of the system's own source list
with the name of the suite changed, into the git-ignored folder `.peers/` of the checkout, where
they are unpacked and not installed. That works as root and as a user alike.

`python -m tests.interop.peers` fetches whatever is missing and prints where everything is.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PRIVATE = CHECKOUT / ".peers"

OLD = "0.2.18"
NEW = "0.2.20"
"""The version whose library has the groups that are found by chat id."""

_SUITES = {OLD: "bookworm", NEW: "trixie"}
_PACKAGES = {
    "bookworm": (
        "libtoxcore2",
        "toxcore-utils",
        "libsodium23",
        "libopus0",
        "libvpx7",
        "libconfig9",
    ),
    "trixie": ("libtoxcore2", "libsodium23", "libopus0", "libvpx9"),
}
_TOXIC = (
    *("toxic", "libalut0", "libcurl3-gnutls", "libnotify4", "libopenal-data", "libopenal1"),
    *("libncursesw6", "libpng16-16", "libqrencode4", "libsndio7.0", "libtinfo6"),
    # what a machine with a desktop has, and a bare one has not
    *("libasound2", "libbsd0", "libmd0", "libgdk-pixbuf-2.0-0", "libglib2.0-0", "libffi8"),
    *("libpcre2-8-0", "libjpeg62-turbo", "libtiff6", "libjbig0", "libdeflate0", "liblerc4"),
    *("libwebp7", "libxml2", "libicu72", "libselinux1", "libmount1", "libblkid1"),
    *(name for name in _PACKAGES["bookworm"] if name != "toxcore-utils"),
)
_SYSTEM_LIBRARIES = ("usr/lib/*/libtoxcore.so.2", "usr/lib/libtoxcore.so.2")
_FETCH_TIMEOUT_S = 300


class PeerMissing(Exception):
    """A peer is neither installed nor can it be fetched; the text says why."""


@dataclass(frozen=True)
class Peer:
    """A program or library of the reference, and the folder of libraries it has to run with."""

    version: str
    path: Path
    libraries: Path | None = None
    more_libraries: Path | None = None

    def environment(self) -> dict[str, str]:
        """Returns the environment for a process that runs or loads this peer."""
        environment = dict(os.environ)
        folders = [str(each) for each in (self.libraries, self.more_libraries) if each is not None]
        if folders:
            environment["LD_LIBRARY_PATH"] = ":".join(folders)
        return environment


@cache
def library(version: str) -> Peer:
    """Returns libtoxcore of `version`: the system's if it is that one, else a private one."""
    for pattern in _SYSTEM_LIBRARIES:
        for path in sorted(Path("/").glob(pattern)):
            peer = Peer(version, path)
            if _version_of(peer) == version:
                return peer
    root = _private_root(_SUITES[version])
    for path in sorted(root.glob(_SYSTEM_LIBRARIES[0])):
        peer = Peer(version, path, path.parent)
        found = _version_of(peer)
        if found != version:
            raise PeerMissing(f"{path} is libtoxcore {found}, not {version}")
        return peer
    raise PeerMissing(f"no libtoxcore.so.2 in the packages under {root}")


@cache
def bootstrapd() -> Peer:
    """Returns tox-bootstrapd 0.2.18: the system's if it is that one, else a private one."""
    installed = shutil.which("tox-bootstrapd")
    if installed is not None and _installed_version("toxcore-utils") == OLD:
        return Peer(OLD, Path(installed))
    root = _private_root(_SUITES[OLD])
    path = root / "usr/bin/tox-bootstrapd"
    for beside in sorted(root.glob(_SYSTEM_LIBRARIES[0])):
        found = _version_of(Peer(OLD, beside, beside.parent))  # the daemon itself never says
        if path.is_file() and found == OLD:
            return Peer(OLD, path, beside.parent)
        raise PeerMissing(f"{path} came with libtoxcore {found}, not {OLD}")
    raise PeerMissing(f"no tox-bootstrapd in the packages under {root}")


@cache
def toxic() -> Peer:
    """Returns the terminal client toxic, of the release with libtoxcore 0.2.18, or the system's."""
    installed = shutil.which("toxic")
    if installed is not None:
        peer = Peer(OLD, Path(installed))
    else:
        root = unpacked("toxic", _SUITES[OLD], _TOXIC)
        usual, first = (
            next(iter(sorted(root.glob(f"{folder}/*-linux-gnu"))), None)
            for folder in ("usr/lib", "lib")
        )
        peer = Peer(OLD, root / "usr/bin/toxic", usual, first)
    done = subprocess.run(
        [str(peer.path), "--version"],
        env={**peer.environment(), "TERM": "xterm"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    if done.returncode != 0:
        raise PeerMissing(f"{peer.path} does not run: {done.stderr.strip()}")
    return peer


def _installed_version(package: str) -> str:
    """Returns the upstream version of an installed Debian package; empty if there is none."""
    try:
        done = subprocess.run(
            ["dpkg-query", "--show", "--showformat", "${Version}", package],
            capture_output=True,
            text=True,
            timeout=30,
        )
    except FileNotFoundError:
        return ""
    return done.stdout.rpartition("-")[0] if done.returncode == 0 else ""


def _version_of(peer: Peer) -> str:
    """Asks a library for its version, in a process of its own: two versions do not mix in one."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.interop.client", "--version", str(peer.path)],
        cwd=CHECKOUT,
        env=peer.environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout.strip() if done.returncode == 0 else f"unusable ({done.stderr.strip()})"


def _private_root(suite: str) -> Path:
    """Returns the folder with the unpacked packages of `suite`, fetching them the first time."""
    return unpacked(suite, suite, _PACKAGES[suite])


def unpacked(name: str, suite: str, packages: Sequence[str]) -> Path:
    """Returns the folder `name` with unpacked Debian packages, fetching them the first time."""
    root = PRIVATE / name
    if root.is_dir():
        return root
    PRIVATE.mkdir(exist_ok=True)
    with _locked(PRIVATE / "lock"):
        if not root.is_dir():
            work = PRIVATE / f"{name}.part"
            shutil.rmtree(work, ignore_errors=True)
            _fetch(suite, packages, work)
            (work / "root").rename(root)
            shutil.rmtree(work)
    return root


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps other test processes from fetching the same packages at the same time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(suite: str, packages: Sequence[str], work: Path) -> None:
    """Downloads and unpacks packages of `suite` below `work`, by apt with private folders."""
    folders = {
        "parts": work / "parts",
        "lists": work / "lists",
        "cache": work / "cache",
        "packages": work / "packages",
        "root": work / "root",
    }
    for folder in folders.values():
        folder.mkdir(parents=True)
    (folders["lists"] / "partial").mkdir()
    (folders["cache"] / "archives/partial").mkdir(parents=True)
    sources = private_sources(suite)
    (folders["parts"] / "peers.sources").write_text(sources)
    apt = [
        "apt-get",
        "-q",
        "-o",
        "Dir::Etc::SourceList=/dev/null",
        "-o",
        f"Dir::Etc::SourceParts={folders['parts']}",
        "-o",
        f"Dir::State::Lists={folders['lists']}",
        "-o",
        f"Dir::Cache={folders['cache']}",
        "-o",
        "APT::Sandbox::User=root",  # the folder need not be open to apt's own user
        "-o",
        "APT::Get::List-Cleanup=false",
        "-o",
        "Acquire::Retries=3",
    ]
    names = [f"{name}/{suite}" for name in packages]
    _run([*apt, "update"], work)
    _run([*apt, "download", *names], folders["packages"])
    for package in sorted(folders["packages"].glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(folders["root"])], work)


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_FETCH_TIMEOUT_S,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise PeerMissing(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-6:])
        raise PeerMissing(f"{command[0]} ended with {done.returncode}: {last}")


@dataclass
class _Source:
    """One entry of a source list, in the fields of the deb822 form."""

    fields: dict[str, str] = field(default_factory=dict)

    def for_suite(self, own: str, suite: str) -> "_Source | None":
        """Returns the entry with suite `own` renamed; None if it says nothing about that suite."""
        if self.fields.get("enabled", "yes").lower() in ("no", "false"):
            return None
        if "deb" not in self.fields.get("types", "").split():
            return None
        wanted = {own: suite, f"{own}-security": f"{suite}-security"}
        renamed = [wanted[name] for name in self.fields.get("suites", "").split() if name in wanted]
        if not renamed:
            return None
        return _Source({**self.fields, "types": "deb", "suites": " ".join(renamed)})

    def text(self) -> str:
        return "".join(f"{name.title()}: {value}\n" for name, value in self.fields.items())


def private_sources(suite: str, etc: Path = Path("/etc")) -> str:
    """Returns the system's Debian sources as one deb822 text that names `suite` instead."""
    own = codename(etc)
    entries: list[_Source] = []
    lists = [etc / "apt/sources.list", *sorted((etc / "apt/sources.list.d").glob("*.list"))]
    for path in lists:
        if path.is_file():
            entries += _one_line_entries(path.read_text())
    for path in sorted((etc / "apt/sources.list.d").glob("*.sources")):
        entries += _stanzas(path.read_text())
    renamed = [entry.for_suite(own, suite) for entry in entries]
    texts = [entry.text() for entry in renamed if entry is not None]
    if not texts:
        raise PeerMissing(f"apt's source lists name no suite {own} of Debian")
    return "\n".join(texts)


def codename(etc: Path = Path("/etc")) -> str:
    """Returns the name of this system's release. Raises PeerMissing where it has none."""
    release = etc / "os-release"
    text = release.read_text() if release.is_file() else ""
    match = re.search(r"^VERSION_CODENAME=(\S+)$", text, re.MULTILINE)
    if match is None:
        raise PeerMissing(f"{release} names no codename")
    return match[1].strip('"')


def _one_line_entries(text: str) -> list[_Source]:
    """Reads the old form: `deb [signed-by=FILE] URI SUITE COMPONENT...`."""
    pattern = re.compile(r"^deb(?:\s+\[([^\]]*)\])?\s+(\S+)\s+(\S+)\s+(.+)$")
    entries = []
    for line in text.splitlines():
        match = pattern.match(line.split("#", 1)[0].strip())
        if match is None:
            continue
        fields = {"types": "deb", "uris": match[2], "suites": match[3], "components": match[4]}
        signed_by = re.search(r"signed-by=(\S+)", match[1] or "")
        if signed_by is not None:
            fields["signed-by"] = signed_by[1]
        entries.append(_Source(fields))
    return entries


def _stanzas(text: str) -> list[_Source]:
    """Reads the deb822 form: paragraphs of `Name: value`, lines that begin with a blank go on."""
    entries = []
    for paragraph in re.split(r"\n\s*\n", text):
        source, name = _Source(), ""
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace() and name:
                source.fields[name] += "\n" + line
            elif ":" in line:
                head, value = line.split(":", 1)
                name = head.strip().lower()
                source.fields[name] = value.strip()
        if source.fields:
            entries.append(source)
    return entries


def main() -> int:
    """Fetches what is missing and prints one line for each peer; 1 if one cannot be had."""
    wanted: dict[str, Callable[[], Peer]] = {
        f"libtoxcore {OLD}": lambda: library(OLD),
        f"libtoxcore {NEW}": lambda: library(NEW),
        f"tox-bootstrapd {OLD}": bootstrapd,
        "toxic": toxic,
    }
    missing = 0
    for name, find in wanted.items():
        try:
            print(f"{name}: {find().path}")
        except PeerMissing as reason:
            print(f"{name}: missing: {reason}")
            missing = 1
    return missing


if __name__ == "__main__":
    raise SystemExit(main())
