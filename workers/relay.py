"""The relay worker: one input frame of the broker in, one commit out."""

from collections.abc import Sequence
from typing import Any

from core import services
from core.dht.snapshot import NodeSnapshot
from core.endpoint import Endpoint
from core.link.memory import keep_large_buffers
from core.link.taps import FrameTap
from core.messages import Message, TableChange, TableFull, TableWanted
from core.module import Context, Module, ProtocolViolation
from core.onion.forwarding import Forwarding
from core.onion.hops import OnionHops
from core.relay import RelayShard, asked
from core.relay.frames import (
    CHUNK_FIELDS,
    CHUNKS,
    RELAY_COMMIT,
    RELAY_INPUT,
    RELAY_RESET,
    ROW_FIELDS,
    ROW_RECEIVED,
    ROW_SENT,
    ROWS,
)
from core.relay.shard import Hop
from workers.desk import Desk


class RelayWorker:
    """Runs a RelayShard; the hops of relay packets 08 and 0a leave by UDP at once."""

    def __init__(self, context: Context, desk: Desk) -> None:
        self.out = context.out
        self.frame_tap: FrameTap | None = None
        self._desk = desk
        self._context = context
        self._hops = OnionHops(context)
        self._forwarding = Forwarding(context, NodeSnapshot(context.keys.public))
        self._shard = RelayShard(
            context.key_cache(),
            context.entropy,
            self._hops.relay_onion_request,
            self._forwarding.relay_forward_request,
        )
        self.handle_options(0.0)

    def handle_options(self, now: float) -> None:
        """Follows which services are off.

        The reference passes over onion requests then, and closes for a forward request
        (c-toxcore TCP_server.c: handle_tcp_packet).
        """
        off = self._context.options.services_off
        shard, onion, forward = self._shard, services.ONION, services.FORWARD
        hops, forwarding = self._hops, self._forwarding
        shard.onion = self._refusing(onion, True) if onion in off else hops.relay_onion_request
        shard.forward = (
            self._refusing(forward, False) if forward in off else forwarding.relay_forward_request
        )

    def _refusing(self, service: str, open_after: bool) -> Hop:
        """Returns a hop that counts what it is given, and then leaves the connection open or not.
        """
        drops, why = self.out.drops, services.reason(service)

        def hop(packet: bytes, serial: int, now: float, from_private: bool = False) -> bool:
            drops[why] += 1
            return open_after

        return hop

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """No datagram is for a relay worker."""
        raise ProtocolViolation("relay_datagram")

    def handle_message(self, message: Message, now: float) -> None:
        """dht.0 tells every worker its table, and asks for it after a restart: there is no copy
        here, since a relay client names addresses itself."""
        if not isinstance(message, TableFull | TableChange | TableWanted):
            self.out.drops["relay_message"] += 1

    def handle_frame(self, kind: int, items: Sequence[Any], now: float) -> None:
        """Answers an input with its commit; with a reset if it broke over it."""
        if kind != RELAY_INPUT:
            self.out.drops["relay_frame_kind"] += 1
            return
        shard = self._shard
        commit = None
        try:
            tap = self.frame_tap
            commit = shard.handle(items, now) if tap is None else self._handle(tap, items, now)
        finally:
            if commit is not None:
                self._desk.send_frame(RELAY_COMMIT, commit)
            elif shard.newly_broken():
                self._desk.send_frame(RELAY_RESET, [shard.epoch])

    def _handle(self, tap: FrameTap, items: Sequence[Any], now: float) -> list[Any] | None:
        """Handles an input while an operator looks on, as far as there is time for that."""
        shard = self._shard
        seen = tap.begin_frames(len(items[CHUNKS]) // CHUNK_FIELDS)
        shard.see(seen)
        try:
            commit = shard.handle(items, now)
        finally:
            shard.see(None)
        rows = [] if commit is None else commit[ROWS]
        passed = sum(rows[ROW_RECEIVED::ROW_FIELDS]) + sum(rows[ROW_SENT::ROW_FIELDS])
        tap.end_frames(seen, passed)
        return commit

    def handle_timer(self, now: float) -> None:
        """Nothing is due here: the broker has the clocks."""

    def next_timer(self) -> float | None:
        """Returns None: the broker has the clocks."""
        return None

    def ask(self, what: str, args: dict[str, Any], now: float) -> dict[str, Any]:
        """Answers an operator's question."""
        return asked.answer(self._shard, what, args, now)

    def snapshot(self) -> dict[str, Any]:
        """Returns counts for the operator."""
        shard = self._shard
        return {
            "connections": len(shard),
            "frames": {f"{kind:02x}": count for kind, count in shard.frames.items()},
        }


def create(context: Context, desk: Desk) -> Module:
    """Makes the relay module."""
    keep_large_buffers()
    return RelayWorker(context, desk)
