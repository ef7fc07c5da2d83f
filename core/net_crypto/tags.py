"""By what the layer above knows again what it gave, when it or we have begun anew."""

from typing import NamedTuple

from core.crypto import PublicKey


class Tag(NamedTuple):
    """The names of a lossless packet; packets of one session are given with growing ones."""

    seq: int
    """1, 2, 3... of all packets that are to be known again; 0: of none of these."""
    letter: int
    """The number under which the layer above keeps what is in it, or 0."""


NO_TAG = Tag(0, 0)


class Progress(NamedTuple):
    """How far a session is with what it was given; each tag has the greatest seq and letter."""

    taken: Tag
    """Whoever ends this process does not lose what has come so far."""
    acked: Tag
    """The peer has all so far."""


class Ended(NamedTuple):
    """A session that is over, of which the layer above does not know all yet."""

    real_key: PublicKey
    serial: bytes
    upto: int
    """The number of the last of `packets`."""
    packets: list[bytes]
    """Those that the peer knows to be here, and nobody has stored."""
    acked: Tag
    """What the peer has of ours."""
