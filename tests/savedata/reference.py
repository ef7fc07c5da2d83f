"""A process that makes and reads profiles with libtoxcore: one JSON object a line, in and out.

`python -m tests.savedata.reference LIBRARY`; `Reference` starts it and asks it.
"""

import ctypes
import json
import subprocess
import sys
from ctypes import byref, c_bool, c_char_p, c_int, c_size_t, c_uint16, c_uint32, c_void_p
from typing import IO, Any, cast

from tests.interop.peers import CHECKOUT, library

_TOX_SAVE = 1  # tox.h: TOX_SAVEDATA_TYPE_TOX_SAVE
_EXTRA = 80  # toxencryptsave.h: TOX_PASS_ENCRYPTION_EXTRA_LENGTH


class Reference:
    """libtoxcore of one version, in a process of its own."""

    def __init__(self, version: str) -> None:
        peer = library(version)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(peer.path)],
            cwd=CHECKOUT,
            env=peer.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, do: str, **arguments: Any) -> Any:
        """Has it do something, and returns the answer."""
        pipe = cast(IO[str], self._process.stdin)
        pipe.write(json.dumps({"do": do, **arguments}) + "\n")
        pipe.flush()
        return json.loads(cast(IO[str], self._process.stdout).readline())

    def close(self) -> None:
        """Ends the process."""
        cast(IO[str], self._process.stdin).close()
        self._process.wait(10)
        cast(IO[str], self._process.stdout).close()


class _Server:
    def __init__(self, path: str) -> None:
        self._c = ctypes.CDLL(path)
        for name in ("tox_options_new", "tox_new"):
            getattr(self._c, name).restype = c_void_p

    def _open(self, saved: bytes) -> int:
        c = self._c
        options = c_void_p(c.tox_options_new(None))
        c.tox_options_set_udp_enabled(options, c_bool(False))
        c.tox_options_set_local_discovery_enabled(options, c_bool(False))
        if saved:
            c.tox_options_set_savedata_type(options, c_int(_TOX_SAVE))
            c.tox_options_set_savedata_data(options, c_char_p(saved), c_size_t(len(saved)))
        error = c_int(0)
        tox = c.tox_new(options, byref(error))
        c.tox_options_free(options)
        assert error.value == 0, error.value
        return int(tox)

    def _saved(self, tox: int) -> bytes:
        c = self._c
        c.tox_get_savedata_size.restype = c_size_t
        buffer = ctypes.create_string_buffer(c.tox_get_savedata_size(c_void_p(tox)))
        c.tox_get_savedata(c_void_p(tox), buffer)
        return buffer.raw

    def do_make(
        self,
        name: str,
        status_message: str,
        status: int,
        friends: list[str],
        requests: list[tuple[str, str]],
        relays: list[tuple[str, int, str]],
    ) -> str:
        """Makes a profile: friends by key, requests by address and text."""
        tox = c_void_p(self._open(b""))
        c = self._c
        for call, text in (("name", name), ("status_message", status_message)):
            data = text.encode()
            assert getattr(c, f"tox_self_set_{call}")(tox, data, c_size_t(len(data)), None)
        c.tox_self_set_status(tox, c_int(status))
        for key in friends:
            assert c.tox_friend_add_norequest(tox, bytes.fromhex(key), None) != -1
        for address, text in requests:
            data = text.encode()
            error = c_int(0)
            c.tox_friend_add(tox, bytes.fromhex(address), data, c_size_t(len(data)), byref(error))
            assert error.value == 0, error.value
        for host, port, key in relays:
            c.tox_add_tcp_relay(tox, host.encode(), c_uint16(port), bytes.fromhex(key), None)
        saved = self._saved(tox.value or 0)
        c.tox_kill(tox)
        return saved.hex()

    def do_again(self, saved: str) -> str:
        """Loads a profile and saves it."""
        tox = self._open(bytes.fromhex(saved))
        again = self._saved(tox)
        self._c.tox_kill(c_void_p(tox))
        return again.hex()

    def do_look(self, saved: str) -> dict[str, Any]:
        """Loads a profile and tells what is in it."""
        tox = c_void_p(self._open(bytes.fromhex(saved)))
        c = self._c
        address = ctypes.create_string_buffer(38)
        c.tox_self_get_address(tox, address)

        def own(what: str) -> str:
            size = getattr(c, f"tox_self_get_{what}_size")
            size.restype = c_size_t
            buffer = ctypes.create_string_buffer(size(tox))
            getattr(c, f"tox_self_get_{what}")(tox, buffer)
            return buffer.raw.decode()

        c.tox_self_get_friend_list_size.restype = c_size_t
        numbers = (c_uint32 * c.tox_self_get_friend_list_size(tox))()
        c.tox_self_get_friend_list(tox, numbers)
        friends = []
        c.tox_friend_get_last_online.restype = ctypes.c_uint64
        for number in numbers:
            key = ctypes.create_string_buffer(32)
            assert c.tox_friend_get_public_key(tox, c_uint32(number), key, None)
            row: dict[str, Any] = {"key": key.raw.hex()}
            for what in ("name", "status_message"):
                size = getattr(c, f"tox_friend_get_{what}_size")
                size.restype = c_size_t
                buffer = ctypes.create_string_buffer(size(tox, c_uint32(number), None))
                getattr(c, f"tox_friend_get_{what}")(tox, c_uint32(number), buffer, None)
                row[what] = buffer.raw.decode()
            row["last_seen"] = c.tox_friend_get_last_online(tox, c_uint32(number), None)
            friends.append(row)
        answer = {
            "address": address.raw.hex(),
            "name": own("name"),
            "status_message": own("status_message"),
            "status": c.tox_self_get_status(tox),
            "friends": friends,
        }
        c.tox_kill(tox)
        return answer

    def do_encrypt(self, data: str, passphrase: str) -> str:
        """Puts data under a passphrase."""
        plain, words = bytes.fromhex(data), passphrase.encode()
        out = ctypes.create_string_buffer(len(plain) + _EXTRA)
        error = c_int(0)
        self._c.tox_pass_encrypt(
            plain, c_size_t(len(plain)), words, c_size_t(len(words)), out, byref(error)
        )
        assert error.value == 0, error.value
        return out.raw.hex()

    def do_decrypt(self, data: str, passphrase: str) -> str | None:
        """Opens what is under a passphrase; None if it is the wrong one."""
        sealed, words = bytes.fromhex(data), passphrase.encode()
        out = ctypes.create_string_buffer(len(sealed) - _EXTRA)
        self._c.tox_pass_decrypt.restype = c_bool
        good = self._c.tox_pass_decrypt(
            sealed, c_size_t(len(sealed)), words, c_size_t(len(words)), out, None
        )
        return out.raw.hex() if good else None


def _serve(path: str) -> None:
    server = _Server(path)
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(server, "do_" + request.pop("do"))(**request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
