"""A made-up node for the tests of what is written about one."""

from typing import Any


def worker(name: str, **changes: Any) -> dict[str, Any]:
    """Returns a row of the status."""
    role, _, shard = name.partition(".")
    row: dict[str, Any] = {
        "name": name,
        "role": role,
        "shard": int(shard or 0),
        "pid": 100,
        "state": "good",
        "core": None,
        "restarts": 0,
        "queue": 3,
        "queue_bytes": 2048,
        "packets_per_s": 1000.0,
        "cpu_percent": 12.5,
        "rss": 30 << 20,
        "uptime_s": 60.0,
        "silent_s": 0.4,
    }
    return {**row, **changes}


def beat(at: float = 100.0, **changes: Any) -> dict[str, Any]:
    """Returns a heartbeat of a worker."""
    row: dict[str, Any] = {
        "at": at,
        "packets": 6,
        "received": [[0, 4], [2, 2]],
        "sent": [[1, 4], [4, 2]],
        "drops": {},
        "busy": 1.5,
        "rss": 30 << 20,
        "waiting": 1,
        "batches": [5, 2, 0, 1, 0, 0, 0, 0],
        "keys": {"size": 10, "hits": 90, "misses": 10},
        "snapshot": {},
    }
    return {**row, **changes}


def table() -> dict[str, Any]:
    """Returns what dht.0 tells of its table."""
    return {
        "close_nodes": 2,
        "close_places_used": 3,
        "buckets": {"0": 1, "3": 1},
        "nodes": {"ipv4": {"good": 2, "bad": 1}, "ipv6": {"good": 1, "bad": 0}},
        "places": "a0b1c2d303" + "0000000109",
        "announcers": 1,
        "connected": True,
        "connected_outside": False,
        "searches": 0,
        "pending_pings": 2,
        "pending_requests": 4,
    }


def report(workers: int = 1, **changes: Any) -> dict[str, Any]:
    """Returns the status of a node with so many dht workers, one for onion and one for relay."""
    names = [f"dht.{shard}" for shard in range(workers)] + ["onion.0", "relay.0"]
    answer: dict[str, Any] = {
        "node": {
            "public_key": "AB" * 32,
            "version": "1.2.3",
            "pid": 99,
            "started_s": 1.7e9,
            "uptime_s": 60.0,
            "state": "good",
            "addresses": ["udp 127.0.0.1:33445"],
            "udp_port": 33445,
            "tcp_ports": [33445],
            "state_dir": "/somewhere",
            "dispatch": "kernel",
            "http": "127.0.0.1:9745",
            "cpu_s": 0.5,
            "services": {"relay": "on", "onion": "off", "LAN": "absent"},
            "drain": None,
            "pending": [{"setting": "udp_port", "now": "1", "then": "2"}],
            "reloads": {"good": 3, "bad": 1},
        },
        "broker": worker("broker"),
        "workers": [worker(name) for name in names],
        "totals": {
            "kinds": {
                "0x00": {"received": 4, "sent": 0},
                "0x01": {"received": 0, "sent": 4},
                "0x07": {"received": 9, "sent": 0},
            },
            "drops": {"dht_box": 2, "relay_ended": 3, "http_host": 1, "unknown_kind:0x07": 9},
        },
        "modules": {
            "broker": {
                "connections": {"greeting": 1, "greeted": 0, "unconfirmed": 0, "confirmed": 7},
                "clients": 7,
                "full": 0,
                "accepting": True,
                "shards": {},
                "counts": {"accepted": 9, "confirmed": 8, "bytes_in": 1000, "bytes_out": 2000},
            },
            "dht.0": {"shard": 0, "table": table()},
            "onion.0": {"announce_entries": 5, "group_chats": 2, "data_entries": 1},
            "relay.0": {"connections": 7, "frames": {"10": 55, "04": 2}},
        },
    }
    answer.update(changes)
    return answer


def hosting() -> dict[str, Any]:
    """Returns the status of a node that hosts identities too."""
    counts = {"identities": 3, "running": 3, "connected": 2, "friends": 9, "online": 4,
              "unsent": 5, "untaken": 6}  # fmt: skip
    ways = {"nodes": 1, "carriers": 3, "sessions_direct": 3, "sessions_relayed": 1, "relays": 2}
    made = report()
    made["modules"] |= {"messenger.0": counts, "messenger.1": counts, "net_crypto.0": ways}
    return made


def beats(workers: int = 1) -> dict[str, dict[str, Any]]:
    """Returns the heartbeats of that node."""
    names = ["broker", *(f"dht.{shard}" for shard in range(workers)), "onion.0", "relay.0"]
    return {name: beat() for name in names}
