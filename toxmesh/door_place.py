"""Where the control door is: a unix socket in the state directory, for its owner alone."""

import os
import socket
from pathlib import Path

_PATH_LIMIT = 107  # bytes of a unix socket's path (sockaddr_un: 108 with the NUL)


def listen(path: Path, backlog: int) -> socket.socket:
    """Binds the door; a path that is too long is reached through its directory's descriptor."""
    path.unlink(missing_ok=True)
    row = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        if len(os.fsencode(path)) <= _PATH_LIMIT:
            row.bind(str(path))
        else:
            directory = os.open(path.parent, os.O_DIRECTORY | os.O_RDONLY)
            try:
                row.bind(f"/proc/self/fd/{directory}/{path.name}")
            finally:
                os.close(directory)
    finally:
        os.umask(before)
    row.listen(backlog)
    row.setblocking(False)
    return row
