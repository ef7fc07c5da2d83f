"""`python -m toxmesh.hosting ROLE`: one process; the supervisor starts it and tells it the rest."""

import importlib
import sys

from core.slots import IDENTITY_ROLES
from workers.on_asyncio import main

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in IDENTITY_ROLES:
        usage = f"python -m toxmesh.hosting {'|'.join(IDENTITY_ROLES)}"
        sys.exit(f"these processes are started by the supervisor, as {usage}")
    # Only what this role needs is loaded: who has the sessions carries no mailboxes in memory.
    sys.exit(main(sys.argv[1], importlib.import_module(f"toxmesh.hosting.{sys.argv[1]}").create))
