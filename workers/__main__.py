"""`python -m workers ROLE`: one worker process; the supervisor starts it and tells it the rest."""

import importlib
import sys

from workers.host import main

ROLES = ("dht", "onion", "relay")

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ROLES:
        sys.exit(f"workers are started by the supervisor, as python -m workers {'|'.join(ROLES)}")
    # Only the module of this role is loaded: a dht worker carries no onion code in memory.
    sys.exit(main(sys.argv[1], importlib.import_module(f"workers.{sys.argv[1]}").create))
