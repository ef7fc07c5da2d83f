"""Settings files and flags: what is accepted, and how every mistake is told with its place."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxmesh import nodes, settings_file
from toxmesh.settings import MAX_WORKERS, Settings, default_workers
from toxmesh.toml_lines import key_lines, line_of

KEY = "AB" * 32

BAD = [
    ("udp_prot = 1", 1, 'unknown setting "udp_prot"; did you mean "udp_port"?'),
    ("\nzzz = 1", 2, 'unknown setting "zzz"; known are'),
    ("udp_port = 70000", 1, "udp_port must be at most 65535, not 70000"),
    ("udp_port = -1", 1, "udp_port must be at least 0"),
    ('udp_port = "33445"', 1, "udp_port must be a whole number, not '33445'"),
    ("udp_port = true", 1, "udp_port must be a whole number, not true"),
    ("tcp_ports = 33445", 1, "tcp_ports must be a list in brackets"),
    ("tcp_ports = [\n 1,\n 70000,\n]", 3, "tcp_ports must be at most 65535"),
    ("tcp_ports = [0, 443]", 1, "0 switches TCP off"),
    ("tcp_ports = [443, 443]", 1, "twice"),
    ('listen = ["0.0.0.0:33445"]', 1, "has a port"),
    ('listen = ["[::]:33445"]', 1, "has a port"),
    ('listen = ["[::]"]', 1, "without brackets"),
    ('listen = ["localhost"]', 1, "not an IPv4 or IPv6 address"),
    ('listen = ["224.0.0.1"]', 1, "no address to listen on"),
    ('listen = ["fe80::1%eth0"]', 1, "no address to listen on"),
    ('listen = ["::ffff:10.0.0.1"]', 1, "write '::ffff:10.0.0.1' as 10.0.0.1"),
    ('listen = ["::1", "0:0::1"]', 1, "is there twice"),
    ('bootstrap = ["node.example.org:33445"]', 1, "not HOST:PORT:PUBLICKEY"),
    (f'bootstrap = [\n  "a.example:33445:{KEY}",\n  "x:0:{KEY}"]', 3, "port of 'x' must be"),
    (f'bootstrap = ["2001:db8::1:33445:{KEY}"]', 1, "in brackets"),
    (f'bootstrap = "x:1:{KEY}"', 1, "must be a list of HOST:PORT:PUBLICKEY"),
    ("bootstrap = [1]", 1, "not 1"),
    ('motd = """a\n' + "b" * 300 + '"""', 1, "at most 255 bytes"),
    ('motd = "' + "b" * 256 + '"', 1, "not 256"),  # the NUL behind it takes the last byte
    ('motd = "a\\u0007"', 1, "control characters"),
    ('lan_discovery = "no"', 1, "true or false"),
    ("state_dir = 3", 1, "must be a path in quotes"),
    ('state_dir = ""', 1, "must name a directory"),
    ('log_level = "loud"', 1, "one of 'debug', 'info', 'warning' or 'error'"),
    ("dev = true", 1, "--dev"),
    ("[workers]\nonoin = 2", 2, 'no such worker role: onoin; did you mean "onion"?'),
    ("[workers]\ndht = 65", 2, "workers.dht must be at most 64"),
    ("[workers]\ndht = 1.5", 2, "workers.dht must be a whole number"),
    ("[worker]\ndht = 1", 1, 'did you mean "workers"?'),
    ("workers = 3", 1, "workers must be a table"),
    ("udp_port = 1\nudp_port = 2", 2, "is not TOML"),
    ("motd = hello", 1, "is not TOML"),
    ("motd = 'hello", 1, "is not TOML"),
    ("tcp_ports = [", 1, "is not TOML"),
]


def problems(text: str, path: Path, **flags: Any) -> list[str]:
    path.write_text(text)
    with pytest.raises(settings_file.SettingsError) as caught:
        settings_file.load(path, flags)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(("text", "line", "words"), BAD)
def test_a_bad_file_is_refused_with_file_line_and_reason(
    text: str, line: int, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "node.toml"
    said = problems(text, path)
    assert len(said) == 1
    assert said[0].startswith(f"{path}:{line}: ")
    assert words in said[0]


def test_all_mistakes_of_file_and_flags_are_told_at_once_in_order(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    text = 'udp_prot = 1\nmotd = 3\n[workers]\nonoin = 1\ndht = -1\n'
    said = problems(text, path, workers="dth=1,relay=x", tcp_ports=(99999,))
    places = [row.split(": ")[0] for row in said]
    assert places == [
        "--tcp-port", "--workers", "--workers", *(f"{path}:{n}" for n in (1, 2, 4, 5)),
    ]  # fmt: skip


def test_nothing_to_serve_is_refused(tmp_path: Path) -> None:
    both_off = problems("udp_port = 0\ntcp_ports = [0]", tmp_path / "a")
    no_worker = problems("[workers]\ndht = 0\nonion = 0\nrelay = 0", tmp_path / "b")
    assert "nobody could reach the node" in both_off[0]
    assert "every worker role is off" in no_worker[0]


def test_a_missing_unreadable_huge_or_binary_file_is_one_sentence(tmp_path: Path) -> None:
    for make, words in (
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.write_bytes(b"#" * 300_000), "longer than"),
        (lambda path: path.write_bytes(b"\n# \xff"), ":2: is not UTF-8"),
        (lambda path: path.write_text("a = " + "[" * 5000 + "]" * 5000), ""),
    ):
        path = tmp_path / f"f{words[:3].strip(':')}"
        make(path)
        with pytest.raises(settings_file.SettingsError) as caught:
            settings_file.load(path)
        assert len(caught.value.problems) == 1
        assert words in str(caught.value)


def test_defaults_need_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/toxmesh:/other")
    settings = settings_file.load().settings
    assert settings.state_dir == Path("/var/lib/toxmesh")
    assert (settings.udp_port, settings.tcp_ports, settings.listen) == (None, None, ())
    assert settings.bootstrap == nodes.shipped()
    assert settings.lan_discovery
    assert dict(settings.workers) == default_workers()
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("HOME", "/home/somebody")
    found = settings_file.load().settings.state_dir
    assert found == Path("/home/somebody/.local/state/toxmesh")


def test_a_role_not_named_keeps_its_default_and_flags_beat_the_file(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('motd = "file"\nudp_port = 1\n[workers]\ndht = 5\nrelay = 7\n')
    flags = {"workers": "dht=2, onion=0", "motd": "", "udp_port": 2, "bootstrap": ()}
    settings = settings_file.load(path, flags).settings
    assert dict(settings.workers) == {"dht": 2, "onion": 0, "relay": 7}
    assert (settings.motd, settings.udp_port) == ("", 2)
    assert settings.bootstrap == nodes.shipped()  # an option not given changes nothing


def test_a_node_on_loopback_alone_has_no_use_for_the_shipped_list() -> None:
    alone = settings_file.load(None, {"listen": ("127.0.0.1", "::1")}).settings
    assert alone.bootstrap == ()
    both = settings_file.load(None, {"listen": ("127.0.0.1", "0.0.0.0")}).settings
    assert both.bootstrap == nodes.shipped()


def test_bootstrap_replaces_the_shipped_list() -> None:
    given_nodes = (f"node.example.org:33445:{KEY}", f"[2001:db8::1]:1:{KEY.lower()}")
    settings = settings_file.load(None, {"bootstrap": given_nodes}).settings
    assert settings.bootstrap == (
        nodes.BootstrapNode("node.example.org", 33445, b"\xab" * 32),
        nodes.BootstrapNode("2001:db8::1", 1, b"\xab" * 32),
    )


def test_zero_switches_a_transport_off() -> None:
    settings = settings_file.load(None, {"tcp_ports": (0,), "udp_port": 5}).settings
    assert (settings.udp_port, settings.tcp_ports) == (5, ())


def test_dev_stays_on_loopback_without_outside_nodes() -> None:
    settings = settings_file.load(None, {"dev": True, "workers": "onion=2"}).settings
    assert settings.listen == ("127.0.0.1",)
    assert settings.bootstrap == ()
    assert not settings.lan_discovery
    assert dict(settings.workers) == {"dht": 1, "onion": 2, "relay": 1}
    with pytest.raises(settings_file.SettingsError, match=r"192\.0\.2\.1 is not there"):
        settings_file.load(None, {"dev": True, "listen": ("192.0.2.1",)})


def test_default_counts_follow_the_cores() -> None:
    counts = {cores: tuple(default_workers(cores).values()) for cores in (1, 2, 4, 5, 8, 16, 64)}
    assert counts == {
        1: (1, 1, 1),
        2: (1, 1, 1),
        4: (1, 1, 1),
        5: (1, 2, 1),
        8: (2, 3, 2),
        16: (6, 7, 2),
        64: (30, 31, 2),
    }
    assert all(1 + sum(default_workers(cores).values()) == cores for cores in range(4, 130))
    assert default_workers(10_000) == {"dht": MAX_WORKERS, "onion": MAX_WORKERS, "relay": 2}


def test_what_show_prints_is_a_file_that_gives_the_same_settings(tmp_path: Path) -> None:
    flags: dict[str, Any] = {
        "state_dir": tmp_path / 'a "b"\\c', "motd": "hé\n\\", "udp_port": 0, "tcp_ports": (1, 2),
        "listen": ("::1",), "workers": "dht=3", "bootstrap": (f"a.example:1:{KEY}",),
    }  # fmt: skip
    path = tmp_path / "shown.toml"
    for loaded in (settings_file.load(None, flags), settings_file.load(None, {})):
        path.write_text(settings_file.as_toml(loaded))
        assert settings_file.load(path).settings == loaded.settings
    assert "udp_port = 0  # --udp-port" in settings_file.as_toml(settings_file.load(None, flags))
    text = settings_file.as_toml(settings_file.load(path))
    assert f"motd = \"\"  # {path}:6" in text


def test_settings_do_not_change() -> None:
    settings = Settings(Path("x"))
    with pytest.raises(AttributeError):
        settings.motd = "y"  # type: ignore[misc]  # that is the point
    with pytest.raises(TypeError):
        settings.workers["dht"] = 4  # type: ignore[index]  # that is the point


DOCUMENT = '''# comment = 1
a = """x = [
b = 2 """ # c
'd e' = ["]", '[',
  # comment ]
  3]
f.g."h.i" = { j = 1, k = [ { l = 2 } ] }
[t.u]
v = 1979-05-27 07:32:00
[[w]]
x = 1
[[w]]
x = "\\"#"
'''


def test_lines_of_keys_are_found_through_strings_comments_and_tables() -> None:
    tomllib.loads(DOCUMENT)
    lines = key_lines(DOCUMENT)
    assert {path: lines[path] for path in lines if path[0] != "w"} == {
        ("a",): 2, ("d e",): 4, ("d e", 0): 4, ("d e", 1): 4, ("d e", 2): 6,
        ("f", "g", "h.i"): 7, ("f", "g", "h.i", "j"): 7, ("f", "g", "h.i", "k"): 7,
        ("f", "g", "h.i", "k", 0): 7, ("f", "g", "h.i", "k", 0, "l"): 7,
        ("t", "u"): 8, ("t", "u", "v"): 9,
    }  # fmt: skip
    assert (lines[("w", 0, "x")], lines[("w", 1, "x")]) == (11, 13)
    assert line_of(lines, ("t", "u", "nothing")) == 8
    assert line_of(lines, ("nothing",)) == 1


@given(st.text(alphabet='ab=[]{}"\'\\#\n,. 1', max_size=60))
def test_the_walk_over_any_text_ends(text: str) -> None:
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        key_lines(text)  # never asked for such a text, but it must end all the same
        return
    lines = key_lines(text)
    assert {path[0] for path in lines} == set(value)
