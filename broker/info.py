"""Bootstrap info (0xf0): who this node is, answered by the broker without any key."""

from collections import Counter

from core import endpoint, services
from core.endpoint import Endpoint

KIND = 0xF0
REQUEST_SIZE = 78  # c-toxcore bootstrap_node_packets.c: INFO_REQUEST_PACKET_LENGTH
MAX_MOTD = 256  # c-toxcore bootstrap_node_packets.h: MAX_MOTD_LENGTH
_ANSWERS_A_SECOND = 8  # to one source prefix: a person asks once, a flood wants an amplifier
_PREFIXES = 4096  # remembered in one second; more are refused


class BootstrapInfo:
    """Answers requests within a budget per source prefix (/24 or /64)."""

    def __init__(self, version_number: int, motd: str, drops: Counter[str]) -> None:
        self._head = bytes([KIND]) + version_number.to_bytes(4, "big")
        self._drops = drops
        self.per_prefix = _ANSWERS_A_SECOND
        self.prefixes = _PREFIXES
        self._second = 0
        self._counts: dict[bytes, int] = {}
        self.off = False
        """Whether the service is off: nobody is answered then."""
        self.say(motd)

    def say(self, motd: str) -> None:
        """Answers with this message of the day from now on."""
        text = motd.encode()
        while len(text) >= MAX_MOTD:  # a character is dropped whole
            motd = motd[:-1]
            text = motd.encode()
        # The reference sends the text with its final NUL, and clients count on that.
        self._answer = self._head + text + b"\0"

    def count(self) -> int:
        """Returns how many prefixes had an answer in the second that was asked in last."""
        return len(self._counts)

    def fullest(self) -> int:
        """Returns how many answers the prefix got that had the most of them."""
        return max(self._counts.values(), default=0)

    def answer(self, size: int, source: Endpoint, now: float) -> bytes | None:
        """Returns the answer to a request of `size` bytes, or None if it gets none (counted)."""
        if self.off:
            self._drops[services.reason(services.INFO)] += 1
            return None
        if size != REQUEST_SIZE:
            self._drops["bad_size:0xf0"] += 1
            return None
        second = int(now)
        if second != self._second:
            self._second = second
            self._counts.clear()
        prefix = endpoint.prefix_of(source)
        count = self._counts.get(prefix, 0)
        if count >= self.per_prefix or (not count and len(self._counts) >= self.prefixes):
            self._drops["budget:0xf0"] += 1
            return None
        self._counts[prefix] = count + 1
        return self._answer
