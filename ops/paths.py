"""Where a node keeps its state, for the node itself and for those who ask it."""

import os
from collections.abc import Mapping
from pathlib import Path

KEYS_FILE = "keys"
NODES_FILE = "nodes.db"
CONTROL_SOCKET = "control.sock"
LOCK_FILE = "lock"
SERVICE_STATE_DIR = Path("/var/lib/toxmesh")
"""Of the system's service: ops/systemd/toxmesh.service, StateDirectory=."""


def default_state_dir(environment: Mapping[str, str] | None = None) -> Path:
    """Returns `$STATE_DIRECTORY`, else `~/.local/state/toxmesh`.

    systemd may put several directories there, separated by colons: the first is ours.
    """
    variables = os.environ if environment is None else environment
    given = variables.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(given) if given else Path.home() / ".local" / "state" / "toxmesh"


def running_state_dir(
    environment: Mapping[str, str] | None = None, service: Path = SERVICE_STATE_DIR
) -> Path:
    """Returns where the node is that an operator means: this user's, else the system's service."""
    variables = os.environ if environment is None else environment
    own = default_state_dir(variables)
    named = bool(variables.get("STATE_DIRECTORY"))
    other = not named and not os.path.isdir(own) and os.path.isdir(service)  # False on errors too
    return service if other else own
