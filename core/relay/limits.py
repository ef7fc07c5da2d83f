"""Sizes and times of the relay protocol, and the limits an operator may set."""

from dataclasses import dataclass, replace

from core.module import NodeOptions

HELLO_SIZE = 128  # c-toxcore TCP_common.h: TCP_CLIENT_HANDSHAKE_SIZE
ANSWER_SIZE = 96  # c-toxcore TCP_common.h: TCP_SERVER_HANDSHAKE_SIZE
MAX_BOX = 2048  # c-toxcore TCP_common.h: MAX_PACKET_SIZE; the box behind the two length bytes
BOX_EXTRA = 18  # bytes that a frame is longer sealed than plain: two of length, 16 of the box
FIRST_LINK = 16  # c-toxcore TCP_common.h: NUM_RESERVED_PORTS
LINKS = 240  # c-toxcore TCP_common.h: NUM_CLIENT_CONNECTIONS
MAX_OOB = 1024  # c-toxcore TCP_common.h: TCP_MAX_OOB_DATA_LENGTH
MAX_FORWARD = 1792  # c-toxcore forwarding.h: MAX_FORWARD_DATA_SIZE
NONCE_MASK = (1 << 192) - 1  # nonces are kept as numbers; the greatest wraps to zero


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """Limits of one relay; 0 takes a limit per address away. Sizes in bytes, times in seconds."""

    connections: int = 20_000  # lowered to what the descriptor limit leaves
    per_address: int = 64
    per_prefix: int = 256  # per /24 of IPv4 and per /64 of IPv6
    unconfirmed: int = 1024  # in all; beyond it the oldest of them goes
    unconfirmed_per_address: int = 32  # beyond it the new one is refused
    reserved_descriptors: int = 64  # for UDP, files and logs; the links to workers have more

    hello_s: float = 10.0  # from accept to the last byte of the hello
    confirm_s: float = 10.0  # from the hello to the first good frame
    ping_s: float = 30.0  # c-toxcore TCP_common.h: TCP_PING_FREQUENCY
    pong_s: float = 10.0  # c-toxcore TCP_common.h: TCP_PING_TIMEOUT
    pause_s: float = 1.0  # longest pause of a sender for a receiver that is full
    hold_s: float = 7.0  # while its worker is away, though a ping is due: pings have 10 s
    stuck_s: float = 10.0  # a full receiver that takes no byte for so long is closed

    queue_high: int = 32 << 10  # a receiver with so much in its queue is full
    queue_low: int = 4 << 10  # and has room again with no more than this
    queue_limit: int = 64 << 10  # data beyond it is dropped
    control_limit: int = 96 << 10  # control frames beyond it close the connection
    ahead_local: int = 32 << 10  # sealed for one receiver ahead of the broker, in its own shard
    ahead_remote: int = 16 << 10  # handed over for one receiver ahead of the broker, elsewhere
    past_full: int = 24 << 10  # from one that is full itself to others that are, until it has room
    rest_s: float = 0.002  # sockets rest so long after a turn with little, where that helps
    rest_below: int = 8  # that is: with fewer connections ready, and fewer frames in them
    chunk: int = 32 << 10  # read from one connection in one turn
    frame: int = 256 << 10  # input of one frame to a worker, about
    hellos: int = 32  # handshakes in one frame: each costs a worker 0.1 ms

    @classmethod
    def of(cls, options: NodeOptions) -> "RelayLimits":
        """Returns the limits an operator has set."""
        return cls().following(options)

    def following(self, options: NodeOptions) -> "RelayLimits":
        """Returns these limits with those that an operator has set (now)."""
        return replace(
            self,
            connections=options.relay_connections,
            per_address=options.relay_per_address,
            per_prefix=options.relay_per_prefix,
            unconfirmed_per_address=options.relay_unconfirmed_per_address,
        )
