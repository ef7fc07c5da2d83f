"""Relay clients in a process of their own: `python -m tests.packaging.load HOST PORT KEY CLIENTS`.

They are linked in pairs and send without a pause until standard input ends. Then one line of JSON
says how many are connected still, and how many frames came, got lost or were wrong.
"""

import json
import os
import sys
import threading

from core.crypto import PublicKey
from toxmesh.bench.clients import Clients, make_rows
from toxmesh.bench.relay import RelayLoad

LONGEST_S = 120.0


def main(host: str, port: str, key: str, clients: str) -> int:
    """Connects, says `ready`, sends, and says what became of it."""
    node, count = PublicKey(bytes.fromhex(key)), int(clients)
    load = RelayLoad(Clients(node, make_rows(node, count)), (host, int(port)), count)
    connected = load.connect_pairs(count)
    print("ready" if connected == count else f"only {connected} are connected", flush=True)

    def until_the_end() -> None:
        while os.read(0, 4096):
            pass
        load.brake.pulled = True

    threading.Thread(target=until_the_end, daemon=True).start()
    result = load.frames(200, 3, LONGEST_S)
    alive = sum(row.alive for row in load.connections.values())
    said = {"alive": alive, "answers": result.answers}
    print(json.dumps({**said, "lost": result.lost, "wrong": result.wrong}), flush=True)
    load.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
