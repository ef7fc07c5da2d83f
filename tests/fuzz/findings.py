"""What a fuzzer has found: packets with which something failed that should not."""

import traceback
from dataclasses import dataclass
from types import TracebackType


@dataclass(frozen=True)
class Failure:
    """Something came out that may not, or a packet changed on its way."""

    seed: str
    packet: str
    data: bytes
    what: str

    def __str__(self) -> str:
        return f"{self.packet}, seed {self.seed}: {self.what}: {self.data.hex()}"


class Findings:
    """The failures of one run, at most so many.

    `with findings.of(name, data):` keeps an error of whatever type for the test to fail with; only
    what ends the whole program goes on.
    """

    def __init__(self, seed: int | str, most: int = 5) -> None:
        self._seed, self._most = str(seed), most
        self._packet, self._data = "", b""
        self.failures: list[Failure] = []

    @property
    def full(self) -> bool:
        """Whether it is enough to look no further."""
        return len(self.failures) >= self._most

    def of(self, packet: str, data: bytes) -> "Findings":
        """Says what is tried next."""
        self._packet, self._data = packet, data
        return self

    def now_with(self, data: bytes) -> bytes:
        """Says what is given next within the same trial."""
        self._data = data
        return data

    def add(self, what: str) -> None:
        """Keeps that something is wrong with what is tried."""
        self.failures.append(Failure(self._seed, self._packet, self._data, what))

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.add("".join(traceback.format_exception(error, limit=-4)))
        return True
