"""What a node tells of itself through the control door: the answer to `status`."""

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from toxmesh import __version__, services
from toxmesh.children import Child, State, Totals

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor


def _row(
    child: Child, queues: Counter[str], waiting: Counter[str], now: float
) -> dict[str, Any]:
    return {
        "name": child.name,
        "role": child.role,
        "shard": child.shard,
        "pid": child.pid if child.alive else None,
        "state": child.state.value,
        "core": child.core,
        "restarts": child.restarts,
        "queue": queues[child.name],
        "queue_bytes": waiting[child.name],
        "packets_per_s": child.packets_per_s,
        "cpu_percent": child.cpu_percent,
        "rss": child.beat.get("rss", 0),
        "uptime_s": round(now - child.spawned, 1) if child.alive else 0.0,
        "silent_s": round(now - child.heard, 3) if child.alive else 0.0,
    }


def node_state(node: "Supervisor") -> str:
    """Returns `starting`, `good`, `degraded` (somebody is not up), `draining` or `stopping`."""
    if node.stopping:
        return "stopping"
    if not node.listening:
        return "starting"
    if node.drain.active:
        return "draining"
    return "good" if all(child.state is State.UP for child in node.children) else "degraded"


def totals(node: "Supervisor") -> tuple[Totals, Counter[str]]:
    """Returns all counters, of the dead as well, and by process the bytes in its kernel queues."""
    totals = Totals()
    totals.received.update(node.totals.received)
    totals.sent.update(node.totals.sent)
    totals.drops.update(node.totals.drops)
    waiting: Counter[str] = Counter()
    for reader, name, queue in node.bound.kernel_queues():
        waiting[reader] += queue.size
        if queue.drops:
            reason = ":".join(filter(None, ("kernel_full", reader.partition(".")[0], name)))
            totals.drops[reason] += queue.drops
    for child in node.children:
        totals.add(child.beat)
    return totals, waiting


def processes(node: "Supervisor", waiting: Counter[str]) -> list[dict[str, Any]]:
    """Returns a row for each process; `waiting`: bytes in kernel queues by its name."""
    now = time.monotonic()
    queues: Counter[str] = Counter()
    for child in node.children:
        queues.update(child.beat.get("queues", {}))
    return [_row(child, queues, waiting, now) for child in node.children]


def report(node: "Supervisor") -> dict[str, Any]:
    """Returns the whole answer to `status`; docs/control.md names its parts."""
    now = time.monotonic()
    counted, waiting = totals(node)
    rows = processes(node, waiting)
    kinds = sorted({*counted.received, *counted.sent})
    return {
        "node": {
            "public_key": node.keys.public.hex().upper(),
            "version": __version__,
            "pid": os.getpid(),
            "started_s": round(node.started_wall, 3),
            "uptime_s": round(now - node.started, 1),
            "state": node_state(node),
            "addresses": node.bound.addresses(),
            "udp_port": node.bound.udp_port,
            "tcp_ports": list(node.bound.tcp_ports),
            "state_dir": str(node.settings.state_dir),
            "dispatch": node.dispatch,
            "http": node.web.place,
            "services": services.states(node),
            "drain": node.drain.told(now) if node.drain.active else None,
            "pending": node.reloads.report(),
            "reloads": {"good": node.reloads.good, "bad": node.reloads.bad},
            "cpu_s": round(time.process_time(), 3),
        },
        "broker": rows[0],
        "workers": rows[1:],
        "totals": {
            "kinds": {
                f"0x{kind:02x}": {"received": counted.received[kind], "sent": counted.sent[kind]}
                for kind in kinds
            },
            "drops": dict(sorted(counted.drops.items())),
        },
        "modules": {child.name: child.beat.get("snapshot", {}) for child in node.children},
    }
