"""Where the peers come from: the system's own sources with another suite, and what if not."""

from pathlib import Path

import pytest

from tests.interop import conftest, peers
from tests.interop.peers import PeerMissing, private_sources

_STANZAS = """\
Types: deb deb-src
# a remark
URIs: http://debian.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://debian.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://elsewhere.example/packages
Suites: stable
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""

_LINES = """\
# deb http://remark.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/key.gpg] http://debian.example/debian bookworm main
deb-src http://debian.example/debian bookworm main
deb http://debian.example/debian-security bookworm-security main contrib # remark
deb http://elsewhere.example/apt tool-bookworm main
"""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "os-release").write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    return tmp_path


def test_stanzas_of_the_own_suite_are_renamed_and_others_left_out(etc: Path) -> None:
    (etc / "apt/sources.list.d/debian.sources").write_text(_STANZAS)
    assert private_sources("trixie", etc) == (
        "Types: deb\n"
        "Uris: http://debian.example/debian\n"
        "Suites: trixie\n"
        "Components: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        "\n"
        "Types: deb\n"
        "Uris: http://debian.example/debian-security\n"
        "Suites: trixie-security\n"
        "Components: main\n"
    )


def test_lines_of_the_old_form_are_read_too(etc: Path) -> None:
    (etc / "apt/sources.list").write_text(_LINES)
    assert private_sources("trixie", etc) == (
        "Types: deb\n"
        "Uris: http://debian.example/debian\n"
        "Suites: trixie\n"
        "Components: main\n"
        "Signed-By: /usr/share/keyrings/key.gpg\n"
        "\n"
        "Types: deb\n"
        "Uris: http://debian.example/debian-security\n"
        "Suites: trixie-security\n"
        "Components: main contrib\n"
    )


def test_a_system_without_debian_sources_has_no_peers(etc: Path) -> None:
    with pytest.raises(PeerMissing, match="no suite bookworm"):
        private_sources("trixie", etc)


def test_a_system_that_is_not_debian_has_no_peers(tmp_path: Path) -> None:
    with pytest.raises(PeerMissing, match="names no codename"):
        private_sources("trixie", tmp_path)


def _nothing() -> peers.Peer:
    raise PeerMissing("apt-get: not here")


@pytest.mark.parametrize("name", ["CI", "TOXMESH_REQUIRE_PEERS"])
def test_a_missing_peer_is_a_failure_where_peers_are_required(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(pytest.fail.Exception, match="apt-get: not here"):
        conftest.found(_nothing)


def test_a_missing_peer_is_elsewhere_a_reason_to_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("TOXMESH_REQUIRE_PEERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get: not here"):
        conftest.found(_nothing)
