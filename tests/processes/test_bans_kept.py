"""The list of bans: what it refuses, what it finds, and its file."""

import logging
from pathlib import Path

import pytest

from core.asking import REFUSED, USAGE, CannotAnswer
from toxmesh import bans
from toxmesh.bans import Ban, BanList, What, nonsense, parse


def ban(text: str, until: float | None = None, note: str = "") -> Ban:
    return Ban(parse(text), 1000.0, until, note)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        (" 192.0.2.7 ", "192.0.2.7/32"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("ab" * 32, "AB" * 32),
        ("ab" * 38, "AB" * 32),  # a Tox id
    ],
)
def test_what_may_be_banned(text: str, kept: str) -> None:
    what = parse(text)
    assert str(what) == kept
    assert parse(str(what)) == what


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shoes", "neither a prefix"),
        ("", "neither a prefix"),
        ("192.0.2.1/24", "did you mean 192.0.2.0/24?"),
        ("192.0.2.0/33", "neither a prefix"),
        ("zz" * 32, "neither a prefix"),
    ],
)
def test_what_may_not(text: str, said: str) -> None:
    with pytest.raises(CannotAnswer, match=said.replace("?", r"\?")) as caught:
        parse(text)
    assert caught.value.code == USAGE


@pytest.mark.parametrize(
    ("text", "is_nonsense"),
    [
        ("0.0.0.0/0", True),
        ("64.0.0.0/7", True),
        ("64.0.0.0/8", False),
        ("::/0", True),
        ("2001::/16", False),
        ("127.0.0.0/8", True),
        ("127.3.0.0/16", True),
        ("::1", True),
        ("10.0.0.0/8", False),
        ("AB" * 32, False),
    ],
)
def test_what_only_force_may(text: str, is_nonsense: bool) -> None:
    assert bool(nonsense(parse(text), bytes(32))) == is_nonsense


def test_bans_outlive_their_process_in_a_file_for_the_owner_alone(tmp_path: Path) -> None:
    rows = BanList(tmp_path)
    rows.add([ban("192.0.2.0/24", note="flood"), ban("AB" * 32, until=4e9)])
    assert rows.save()
    assert (tmp_path / bans.FILE).stat().st_mode & 0o777 == 0o600
    again = BanList(tmp_path)
    assert again.rows() == rows.rows()
    assert again.next_end == 4e9
    rows.add([ban("198.51.100.1", until=2000.0)])  # it is over when the next one reads it
    assert rows.save()
    later = BanList(tmp_path)
    assert [str(row.what) for row in later.over(3000.0)] == ["198.51.100.1/32"]
    assert len(later) == 2


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b'{"form": 2, "bans": []}', b'{"form": 1, "bans": [{"ban": "x"}]}', b"[]", b"null"],
)
def test_a_damaged_file_is_set_aside_and_said(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / bans.FILE).write_bytes(data)
    with caplog.at_level(logging.ERROR):
        assert len(BanList(tmp_path)) == 0
    assert "nobody is banned" in caplog.text
    assert (tmp_path / "bans.json.damaged").read_bytes() == data


def test_a_file_that_cannot_be_written_is_said_and_the_ban_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("toxmesh.storage.replace", full)
    rows = BanList(tmp_path)
    rows.add([ban("192.0.2.0/24")])
    assert not rows.save()
    assert len(rows) == 1


def test_the_bans_that_take_something_in_are_found() -> None:
    rows = BanList(Path("/nonexistent"))
    rows.add([ban("192.0.0.0/16"), ban("192.0.2.0/24"), ban("2001:db8::/32"), ban("AB" * 32)])
    assert [str(row.what) for row in rows.find(parse("192.0.2.9"))] == [
        "192.0.0.0/16",
        "192.0.2.0/24",
    ]
    assert [str(row.what) for row in rows.find(parse("192.0.0.0/16"))] == ["192.0.0.0/16"]
    assert [str(row.what) for row in rows.find(parse("2001:db8::1"))] == ["2001:db8::/32"]
    assert len(rows.find(parse("AB" * 32))) == 1
    assert rows.find(parse("CD" * 32)) == rows.find(parse("198.51.100.1")) == []


def test_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bans, "MOST", 3)
    rows = BanList(Path("/nonexistent"))
    rows.add([ban(f"192.0.2.{number}") for number in range(3)])
    assert rows.add([ban("192.0.2.1", note="again")]) == []
    with pytest.raises(CannotAnswer, match="remove some") as caught:
        rows.add([ban("192.0.2.1"), ban("192.0.2.9")])
    assert caught.value.code == REFUSED
    assert [row.note for row in rows.rows()] == ["", "again", ""]


def test_those_whose_time_is_over_are_let_in() -> None:
    rows = BanList(Path("/nonexistent"))
    rows.add([ban("192.0.2.1", until=2000.0), ban("192.0.2.2", until=3000.0), ban("192.0.2.3")])
    assert rows.over(1999.0) == []
    assert [row.what for row in rows.over(2000.0)] == [What(bytes((192, 0, 2, 1)), 32)]
    assert rows.next_end == 3000.0
    assert len(rows.over(9999.0)) == 1
    assert rows.next_end is None
    assert len(rows) == 1
