"""What a scrape of `/metrics` tells: the node's status and its children's heartbeats, as families.

Nothing is counted for it: it is written from what heartbeats brought, when somebody asks. Whatever
a stranger can make many of (reasons, unknown kinds) has a bound, and so have workers: all together
stay below `MAX_SERIES` series, and what is beyond is added up under `other`. docs/metrics.md.
"""

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from core.slots import IDENTITY_ROLES
from ops.kinds import NAMES
from toxmesh.web.exposition import Bounded, Exposition, Sample

MAX_REASONS = 640
MAX_WORKERS = 96  # shown one by one; a node may have 208
MAX_FRAME_KINDS = 32

STATES = ("starting", "good", "degraded", "draining", "stopping")
FAMILIES = ("ipv4", "ipv6")
_UNOPENED = {  # reasons for what no key opens, by module
    "announce_not_opened": "announce",
    "data_announce_not_opened": "data",
    "data_store_not_opened": "data",
    "dht_box": "dht",
    "onion_not_opened": "onion",
    "relay_closed:frame_box": "relay",
    "relay_closed:hello": "relay",
}
_PATHS = (("udp", "direct"), ("relay", "relayed"))
_RELAY_COUNTS = ("accepted", "confirmed", "bytes_in", "bytes_out")

Report = Mapping[str, Any]
Beats = Mapping[str, Mapping[str, Any]]

ALERTED = ("bug", "relay_bug")
"""Reasons that are there before they are first counted: an alert on a growth needs a beginning."""

OPERATORS = ("control_", "http_")  # beginnings of the reasons for operators' own requests
RELAY = ("relay_", "service_off:relay")


def by_family(drops: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Sorts counted reasons into the three families of drops and refusals."""
    result: dict[str, dict[str, float]] = {"udp": {}, "relay": {}, "operator": {}}
    for reason, count in sorted(drops.items()):
        if reason.startswith(RELAY):
            result["relay"][reason] = count
        elif reason.startswith(OPERATORS):
            result["operator"][reason] = count
        else:
            result["udp"][reason] = count
    return result


def _each(label: str, values: Mapping[str, float]) -> Iterable[Sample]:
    return [(((label, name),), value) for name, value in values.items()]


def _one(value: float) -> Iterable[Sample]:
    return [((), value)]


def _role(name: str) -> str:
    return name.partition(".")[0]


class Metrics:
    """Writes scrapes; it remembers only which label values have a series."""

    def __init__(self) -> None:
        self._reasons = Bounded(MAX_REASONS)
        self._workers = Bounded(MAX_WORKERS)
        self._frames = Bounded(MAX_FRAME_KINDS)

    def render(self, report: Report, beats: Beats) -> bytes:
        """Returns the text. `report`: toxmesh.status.report(); `beats`: heartbeats by name."""
        out = Exposition()
        self._node(out, report["node"])
        self._packets(out, report["totals"])
        self._drops(out, report["totals"]["drops"])
        self._children(out, [report["broker"], *report["workers"]], beats)
        modules: Mapping[str, Mapping[str, Any]] = report["modules"]
        self._caches(out, beats)
        self._batches(out, beats)
        self._dht(out, modules)
        self._onion(out, modules)
        self._relay(out, modules)
        self._identities(out, modules)
        return out.text()

    @staticmethod
    def _node(out: Exposition, node: Mapping[str, Any]) -> None:
        out.family(
            "toxmesh_build_info",
            "gauge",
            "What runs here; always 1.",
            [
                (
                    (
                        ("version", node["version"]),
                        ("python", platform.python_version()),
                        ("dispatch", node["dispatch"]),
                    ),
                    1,
                )
            ],
        )
        out.family(
            "toxmesh_node_state",
            "gauge",
            "1 for the state that the node is in.",
            _each("state", {name: int(name == node["state"]) for name in STATES}),
        )
        out.family(
            "toxmesh_start_time_seconds",
            "gauge",
            "When the node started, in unix time.",
            _one(node["started_s"]),
        )
        out.family(
            "toxmesh_reloads_total",
            "counter",
            "How often the settings were read again; bad: with a mistake in them.",
            _each("result", node["reloads"]),
        )
        out.family(
            "toxmesh_service_on",
            "gauge",
            "Whether a service is on; one that the node is set up without is not named.",
            _each(
                "service",
                {
                    name: int(state == "on")
                    for name, state in node["services"].items()
                    if state != "absent"
                },
            ),
        )
        out.family(
            "toxmesh_settings_pending",
            "gauge",
            "Settings that were changed and wait for the node to be started again.",
            _one(len(node["pending"])),
        )

    @staticmethod
    def _packets(out: Exposition, totals: Mapping[str, Any]) -> None:
        counts: Counter[tuple[str, str, str]] = Counter()
        for text, row in totals["kinds"].items():
            name = NAMES.get(int(text, 16))
            kind, name = ("other", "no packet of Tox") if name is None else (text, name)
            counts["in", kind, name] += row["received"]
            counts["out", kind, name] += row["sent"]
        out.family(
            "toxmesh_udp_packets_total",
            "counter",
            "Datagrams by first byte, received and sent.",
            [
                ((("dir", way), ("kind", kind), ("name", name)), count)
                for (way, kind, name), count in sorted(counts.items())
            ],
        )

    def _drops(self, out: Exposition, drops: Mapping[str, int]) -> None:
        rows = by_family(self._reasons.fold({**dict.fromkeys(ALERTED, 0), **drops}))
        out.family(
            "toxmesh_udp_drops_total",
            "counter",
            "Datagrams, and messages between workers, that were refused or lost.",
            _each("reason", rows["udp"]),
        )
        out.family(
            "toxmesh_relay_drops_total",
            "counter",
            "TCP connections and relay frames that were refused, closed or lost.",
            _each("reason", rows["relay"]),
        )
        out.family(
            "toxmesh_operator_refusals_total",
            "counter",
            "Requests and connections of operators that were refused.",
            _each("reason", rows["operator"]),
        )
        failures = dict.fromkeys(_UNOPENED.values(), 0)
        for reason, module in _UNOPENED.items():
            failures[module] += drops.get(reason, 0)
        out.family(
            "toxmesh_crypto_failures_total",
            "counter",
            "Sealed parts that no key of ours opens.",
            _each("module", failures),
        )

    def _children(
        self, out: Exposition, rows: list[Mapping[str, Any]], beats: Beats
    ) -> None:
        """Adds what there is for each process."""

        def add(
            name: str, kind: str, text: str, value: Callable[[Mapping[str, Any]], float]
        ) -> None:
            counts = self._workers.fold({row["name"]: value(row) for row in rows})
            out.family(name, kind, text, _each("worker", counts))

        def beat(name: str) -> Callable[[Mapping[str, Any]], float]:
            return lambda row: beats.get(row["name"], {}).get(name, 0)

        add("toxmesh_worker_up", "gauge", "Whether it works.", lambda row: row["state"] == "good")
        add(
            "toxmesh_worker_restarts_total",
            "counter",
            "How often it was started again.",
            lambda row: row["restarts"],
        )
        add(
            "toxmesh_worker_heartbeat_age_seconds",
            "gauge",
            "Time since it was last heard of; it tells of itself once a second.",
            lambda row: row["silent_s"],
        )
        add(
            "toxmesh_worker_busy_ratio",
            "gauge",
            "Share of one core that it used in the last second.",
            lambda row: row["cpu_percent"] / 100,
        )
        add(
            "toxmesh_worker_cpu_seconds_total",
            "counter",
            "CPU time since it started.",
            beat("busy"),
        )
        add(
            "toxmesh_worker_memory_bytes",
            "gauge",
            "Resident memory.",
            lambda row: row["rss"],
        )
        add(
            "toxmesh_worker_packets_total",
            "counter",
            "Datagrams that it took since it started.",
            beat("packets"),
        )
        add(
            "toxmesh_worker_mailbox_frames",
            "gauge",
            "Messages to other workers that wait here.",
            beat("waiting"),
        )
        add(
            "toxmesh_worker_kernel_queue_bytes",
            "gauge",
            "Memory of the datagrams that wait in its sockets.",
            lambda row: row["queue_bytes"],
        )
        add(
            "toxmesh_broker_queue_frames",
            "gauge",
            "Datagrams that wait for it in the broker.",
            lambda row: row["queue"],
        )

    @staticmethod
    def _caches(out: Exposition, beats: Beats) -> None:
        sums: dict[str, Counter[str]] = {"hits": Counter(), "misses": Counter(), "size": Counter()}
        for name, beat in beats.items():
            for what, count in beat.get("keys", {}).items():
                sums[what][_role(name)] += count
        for what, text in (
            ("hits", "Senders whose combined key was at hand."),
            ("misses", "Combined keys that had to be computed."),
        ):
            out.family(
                f"toxmesh_shared_key_cache_{what}_total",
                "counter",
                text,
                _each("role", sums[what]),
            )
        out.family(
            "toxmesh_shared_key_cache_keys",
            "gauge",
            "Combined keys at hand.",
            _each("role", sums["size"]),
        )

    @staticmethod
    def _batches(out: Exposition, beats: Beats) -> None:
        sizes: dict[str, list[int]] = {}
        packets: Counter[str] = Counter()
        for name, beat in beats.items():
            counts = beat.get("batches")
            if not counts:
                continue
            row = sizes.setdefault(_role(name), [0] * len(counts))
            for index, count in enumerate(counts):
                row[index] += count
            packets[_role(name)] += beat.get("packets", 0)
        rows = []
        for role, counts in sorted(sizes.items()):
            total, bounds = 0, {}
            for width, count in enumerate(counts[1:], 1):
                total += count
                bounds[str((1 << width) - 1)] = total
            bounds["+Inf"] = total
            rows.append(((("role", role),), bounds, packets[role]))
        out.histogram(
            "toxmesh_worker_batch_size", "Datagrams that a worker took in one go.", rows
        )

    @staticmethod
    def _dht(out: Exposition, modules: Mapping[str, Mapping[str, Any]]) -> None:
        table = modules.get("dht.0", {}).get("table")
        if not table:
            return
        out.family(
            "toxmesh_dht_nodes",
            "gauge",
            "Addresses in the close list; a bad one has not answered for 122 s.",
            [
                ((("family", family), ("state", state)), table["nodes"][family][state])
                for family in FAMILIES
                for state in ("good", "bad")
            ],
        )
        for name, key, text in (
            ("connected", "connected", "Whether some node of the close list answers."),
            ("connected_outside", "connected_outside", "The same, outside local networks."),
            ("announcers", "announcers", "Nodes of the close list that keep announces."),
            ("searches", "searches", "Keys that are searched for."),
            ("pending_pings", "pending_pings", "Pings that wait for an answer."),
            ("pending_requests", "pending_requests", "Requests that wait for an answer."),
        ):
            out.family(f"toxmesh_dht_{name}", "gauge", text, _one(int(table[key])))
        out.family(
            "toxmesh_dht_buckets_used",
            "gauge",
            "k-buckets with a good node in them, of 128.",
            _one(len(table["buckets"])),
        )

    @staticmethod
    def _onion(out: Exposition, modules: Mapping[str, Mapping[str, Any]]) -> None:
        shards = [row for name, row in modules.items() if _role(name) == "onion" and row]
        if not shards:
            return
        for name, key, text in (
            ("announces", "announce_entries", "Clients announced here."),
            ("group_chats", "group_chats", "Group chats with peers announced here."),
            ("data_entries", "data_entries", "Data announcements kept here."),
        ):
            total = sum(row[key] for row in shards)
            out.family(f"toxmesh_onion_{name}", "gauge", text, _one(total))

    @staticmethod
    def _identities(out: Exposition, modules: Mapping[str, Mapping[str, Any]]) -> None:
        """Nothing where no identity is hosted."""
        sums: Counter[str] = Counter()
        for name, row in modules.items():
            if _role(name) in IDENTITY_ROLES:
                sums.update({key: int(value) for key, value in row.items()})
        if not sums["identities"]:
            return
        for name, text in (
            ("identities", "Identities that are hosted here."),
            ("connected", "Of these, friends can find."),
            ("friends", "Friends of hosted identities."),
            ("online", "Of these, are there."),
        ):
            family = "toxmesh_identities" if name == "identities" else f"toxmesh_identities_{name}"
            out.family(family, "gauge", text, _one(sums[name]))
        out.family(
            "toxmesh_identities_messages",
            "gauge",
            "Messages that wait: for their receipt (unsent), or for a program (untaken).",
            [((("state", state),), sums[state]) for state in ("unsent", "untaken")],
        )
        out.family(
            "toxmesh_identities_sessions",
            "gauge",
            "Sessions with friends, by the way they go.",
            [((("path", way),), sums[f"sessions_{key}"]) for way, key in _PATHS],
        )

    def _relay(self, out: Exposition, modules: Mapping[str, Mapping[str, Any]]) -> None:
        frames: Counter[str] = Counter()
        for name, row in modules.items():
            if _role(name) == "relay":
                frames.update(row.get("frames", {}))
        if frames:
            out.family(
                "toxmesh_relay_frames_total",
                "counter",
                "Frames of clients that were opened, by packet id.",
                _each("kind", self._frames.fold({f"0x{kind}": frames[kind] for kind in frames})),
            )
        tcp = modules.get("broker")
        if not tcp:
            return
        out.family(
            "toxmesh_relay_connections",
            "gauge",
            "TCP connections by state; a confirmed one is a client.",
            _each("state", tcp["connections"]),
        )
        out.family(
            "toxmesh_relay_clients_full", "gauge", "Clients that do not keep up.", _one(tcp["full"])
        )
        out.family(
            "toxmesh_relay_accepting",
            "gauge",
            "Whether new connections are accepted.",
            _one(int(tcp["accepting"])),
        )
        counts = {name: tcp["counts"].get(name, 0) for name in _RELAY_COUNTS}
        out.family(
            "toxmesh_relay_bytes_total",
            "counter",
            "Bytes of TCP streams, read and written.",
            [((("dir", way),), counts[f"bytes_{way}"]) for way in ("in", "out")],
        )
        for name, text in (
            ("accepted", "TCP connections that were accepted."),
            ("confirmed", "TCP connections that became clients."),
        ):
            out.family(f"toxmesh_relay_{name}_total", "counter", text, _one(counts[name]))
