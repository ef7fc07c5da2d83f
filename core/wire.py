"""The layout vocabulary of packets, and the compiler that makes encoders and decoders of it."""


class WireError(Exception):
    """These bytes are no packet of this kind: which packet, and which rule with both numbers."""

    def __init__(self, packet: str, rule: str) -> None:
        super().__init__(f"{packet}: {rule}")
        self.packet = packet
        self.rule = rule
