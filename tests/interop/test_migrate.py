"""A node moves from tox-bootstrapd to ours: its settings file is read as libconfig reads it."""

import ctypes
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.commands import call
from tests.cli.test_foreign import LIBCONFIG, plain
from tests.interop import peers
from tests.interop.conftest import found
from tests.interop.nodes import start_bootstrapd
from tests.interop.probe import Probe, read_bootstrap_info
from toxmesh.foreign import TextError, libconfig

pytestmark = [pytest.mark.interop]

_FRAGMENTS = [
    "a", "b=", "c : ", "1", "-7", "0x1F", "2.5", "1e3", "true", "FALSE", '"x"', '"\\n\\x41\\q"',
    "{", "}", "(", ")", "[", "]", ",", ";", "\n", " ", "// x\n", "# y\n", "/* z\n*/", "10L", "%",
    "port = 33445\n", "n = ( { a = 1 }, { a = 2 } )\n", "t = [443, 3389]\n",
]  # fmt: skip


@cache
def _library() -> ctypes.CDLL:
    peer = found(peers.bootstrapd)
    private = sorted(peer.libraries.glob("libconfig.so.*")) if peer.libraries else []
    return ctypes.CDLL(str(private[0]) if private else "libconfig.so.9")


def _function(name: str, answer: Any, *arguments: Any) -> Callable[..., Any]:
    function = _library()[name]
    function.restype, function.argtypes = answer, arguments
    return function


class _Setting(ctypes.Structure):
    """The head of libconfig's config_setting_t."""

    _fields_ = (("name", ctypes.c_char_p), ("type", ctypes.c_short))


def _value(place: int) -> Any:
    """Returns a setting of libconfig as `plain` does one of ours."""
    pointer = ctypes.c_void_p
    kind = _Setting.from_address(place).type
    element = _function("config_setting_get_elem", pointer, pointer, ctypes.c_uint)
    parts = [
        element(place, i)
        for i in range(_function("config_setting_length", ctypes.c_int, pointer)(place))
    ]
    get: dict[int, Callable[[], Any]] = {  # libconfig.h: CONFIG_TYPE_*
        1: lambda: {_Setting.from_address(one).name.decode(): _value(one) for one in parts},
        2: lambda: _function("config_setting_get_int", ctypes.c_int, pointer)(place),
        3: lambda: _function("config_setting_get_int64", ctypes.c_longlong, pointer)(place),
        4: lambda: _function("config_setting_get_float", ctypes.c_double, pointer)(place),
        5: lambda: _function("config_setting_get_string", ctypes.c_char_p, pointer)(
            place
        ).decode(),
        6: lambda: bool(_function("config_setting_get_bool", ctypes.c_int, pointer)(place)),
        7: lambda: [_value(one) for one in parts],
        8: lambda: tuple(_value(one) for one in parts),
    }
    return get[kind]()


def _by_libconfig(text: str) -> Any:
    """Returns what libconfig makes of a text; None if it refuses it."""
    config = ctypes.create_string_buffer(1024)  # greater than any config_t; its root stands first
    _function("config_init", None, ctypes.c_void_p)(config)
    read = _function("config_read_string", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
    try:
        if not read(config, text.encode()):
            return None
        root = ctypes.c_void_p.from_buffer(config).value
        assert root is not None
        return _value(root)
    finally:
        _function("config_destroy", None, ctypes.c_void_p)(config)


def test_libconfig_itself_reads_the_same_in_a_file_with_all_kinds_of_values() -> None:
    text = LIBCONFIG.replace("3, ]", "3]")  # 1.5 has no comma there, 1.7 does
    assert _by_libconfig(text) == plain(libconfig.parse(text))


@given(st.lists(st.sampled_from(_FRAGMENTS), max_size=14))
def test_what_we_read_libconfig_reads_the_same(parts: list[str]) -> None:
    text = "".join(parts) + "\n"
    try:
        ours = plain(libconfig.parse(text))
    except TextError:
        return
    theirs = _by_libconfig(text)
    if theirs is None:  # the older libconfig takes no comma with nothing behind it
        assert any(end in text.replace(" ", "").replace("\n", "") for end in (",]", ",)", ",,"))
    else:
        assert ours == theirs


@pytest.mark.process
def test_our_node_takes_the_place_of_tox_bootstrapd(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    old_folder = tmp_path / "old"
    old_folder.mkdir()
    old = start_bootstrapd(found(peers.bootstrapd), old_folder, motd="moved in")
    old.stop()
    out = tmp_path / "toxmesh.toml"
    said = call(
        capsys, "config", "migrate", old_folder / "tox-bootstrapd.conf", "--out", out,
        "--state-dir", tmp_path / "state",
    )  # fmt: skip
    assert said.code == 0, said.err
    process = subprocess.Popen(
        [sys.executable, "-m", "toxmesh", "run", "--config", str(out)],
        cwd=peers.CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        ready = process.stdout.readline().strip()
        probe = Probe()
        answer = probe.bootstrap_info(old)
        probe.close()
        process.terminate()
    assert ready == f"ready udp={old.udp_port} tcp={old.tcp_port} key={old.key.hex().upper()}"
    assert answer is not None
    assert read_bootstrap_info(answer)[1] == "moved in"
    assert process.returncode == 0
