"""Tox node on worker processes, and Tox identities for Python programs.

`from toxmesh import Identity, Message, ...`: whatever `toxmesh.identity.api` has is here as well.
It is loaded when it is asked for, so that the commands of the node start without it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toxmesh.identity.api import *  # noqa: F403  # for type checkers: __getattr__ finds them

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Returns a class of `toxmesh.identity.api`: those alone have capitals."""
    if name[:1].isupper():
        from toxmesh.identity import api

        if name in api.__all__:
            return getattr(api, name)
    raise AttributeError(f"module 'toxmesh' has no attribute {name!r}")
