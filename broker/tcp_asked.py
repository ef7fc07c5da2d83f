"""What operators ask of the relay's streams, and what they have it do."""

from typing import TYPE_CHECKING, Any

from core.asking import NOT_FOUND, CannotAnswer

if TYPE_CHECKING:
    from broker.tcp import RelayTcp


def answer(tcp: "RelayTcp", what: str, args: dict[str, Any], now: float) -> Any:
    """Answers one question with plain data; raises CannotAnswer."""
    raise CannotAnswer(NOT_FOUND, f"{what} is nothing that the relay knows")
