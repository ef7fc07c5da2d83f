"""Processes of a running node are replaced while it works: nobody loses a connection or a frame."""

import threading
from pathlib import Path
from typing import Any

import pytest

from ops import client
from tests.processes.node import Pinger, free_port, running
from toxmesh.bench.clients import Clients, make_rows
from toxmesh.bench.relay import RelayLoad

pytestmark = pytest.mark.process
CONNECTIONS, ROUNDS = 40, 2


def restart(state_dir: Path, name: str) -> list[dict[str, Any]]:
    rows = client.ask(state_dir, "worker restart", {"name": name}, timeout_s=60)["rows"]
    return [dict(row) for row in rows]


def test_every_process_is_replaced_while_relay_clients_send_and_no_frame_is_lost(
    tmp_path: Path,
) -> None:
    port = free_port()
    with running(
        tmp_path, "--tcp-port", str(port), workers="dht=1,onion=1,relay=2"
    ) as here:
        first = {row["name"]: row["pid"] for row in here.status()["workers"]}
        load = RelayLoad(
            Clients(here.key, make_rows(here.key, CONNECTIONS)), ("127.0.0.1", port), 40
        )
        assert load.connect_pairs(CONNECTIONS) == CONNECTIONS
        replaced: list[dict[str, Any]] = []

        def change() -> None:
            for _ in range(ROUNDS):
                replaced.extend(restart(tmp_path, "*"))
            load.brake.pulled = True

        changing = threading.Thread(target=change)
        changing.start()
        result = load.frames(200, 3, 60.0)
        changing.join(60)
        status = here.status()
        assert len(replaced) == ROUNDS * 5
        assert not {row["pid"] for row in status["workers"]} & set(first.values())
        assert (result.lost, result.wrong, len(load.connections)) == (0, 0, CONNECTIONS)
        assert result.answers > 1000
        assert sum(row["restarts"] for row in status["workers"]) == 0
        lost = {key: n for key, n in status["totals"]["drops"].items() if "lost" in key}
        assert lost == {}
        pinger = Pinger(here.key, here.udp_port)
        assert pinger.answered(3.0)
        pinger.close()
        load.close()


def test_a_process_that_is_not_there_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        before = here.children()
        with pytest.raises(client.AskError, match=r"there is no dht\.9 in this node") as refused:
            restart(tmp_path, "dht.9")
        assert refused.value.code == client.NOT_FOUND
        assert here.children() == before
