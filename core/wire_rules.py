"""The words of which packet layouts are made: what may stand in a field's annotation."""

from typing import Annotated, Any, Literal, NamedTuple, TypeAlias


class WireError(Exception):
    """These bytes are no packet of this kind: which packet, and which rule with both numbers."""

    def __init__(self, packet: str, rule: str) -> None:
        super().__init__(f"{packet}: {rule}")
        self.packet = packet
        self.rule = rule


class Fixed:
    """Bytes of one exact size."""

    def __init__(self, size: int) -> None:
        self.low = self.high = size
        self.format = f"{size}s"
        self.text = f"{size} bytes"


class Number:
    """A big-endian unsigned number of 1, 2, 4 or 8 bytes, perhaps with limits."""

    def __init__(
        self, size: int, low: int = 0, high: int | None = None, others: tuple[int, ...] = ()
    ) -> None:
        greatest = (1 << 8 * size) - 1
        self.low = self.high = size
        self.format = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
        self.least, self.greatest = low, greatest if high is None else high
        self.others = others
        """Values allowed besides least..greatest."""
        self.checked = (low, self.greatest) != (0, greatest)
        limits = f", {low}-{self.greatest}" if self.checked else ""
        extra = "".join(f" or {other}" for other in others)
        self.text = f"u{8 * size}{limits}{extra}"

    def allows(self, value: int) -> bool:
        """Tells whether the number may have this value."""
        return self.least <= value <= self.greatest or value in self.others


class Variable:
    """A field whose size the bytes decide. Subclasses bound it by `low` and `high` bytes.

    A greedy one takes all up to the end (or the fixed fields that end it); another one knows its
    own end, or is told a count by a field declared with `count_of`.
    """

    low: int
    high: int
    text: str
    greedy = False

    def read(self, data: bytes, offset: int, end: int, count: int | None) -> tuple[Any, int]:
        """Returns the value at `offset` and the offset behind it. Raises WireError."""
        raise NotImplementedError

    def write(self, value: Any) -> bytes:
        """Returns the bytes of a value; ValueError for one that does not fit."""
        raise NotImplementedError

    def count(self, value: Any) -> int:
        """Returns what a `count_of` field holds for this value."""
        return len(value)


class Rest(Variable):
    """All bytes that are left: between `low` and `high` of them, or one of the `sizes`."""

    greedy = True

    def __init__(self, low: int, high: int, sizes: tuple[int, ...] = ()) -> None:
        self.low, self.high, self.sizes = low, high, sizes
        self.text = " or ".join(map(str, sizes)) if sizes else f"{low}-{high}"
        self.text += " bytes"

    def read(self, data: bytes, offset: int, end: int, count: int | None) -> tuple[bytes, int]:
        """Takes the bytes up to `end`."""
        self._check(end - offset)
        return data[offset:end], end

    def write(self, value: bytes) -> bytes:
        """Returns the value, whose size is checked."""
        try:
            self._check(len(value))
        except WireError as error:
            raise ValueError(error.rule) from None
        return value

    def _check(self, size: int) -> None:
        if not self.low <= size <= self.high or (self.sizes and size not in self.sizes):
            raise WireError("bytes", f"has {size} bytes, not {self.text}")


class Run(Variable):
    """Bytes whose number an earlier `count_of` field tells."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        self.text = f"{low}-{high} bytes, as counted"

    def read(self, data: bytes, offset: int, end: int, count: int | None) -> tuple[bytes, int]:
        """Takes `count` bytes."""
        size = count or 0
        if not self.low <= size <= self.high:
            raise WireError("bytes", f"count {size} is not in {self.low}-{self.high}")
        if size > end - offset:
            raise WireError("bytes", f"count {size} is more than the {end - offset} that are left")
        return data[offset : offset + size], offset + size

    def write(self, value: bytes) -> bytes:
        """Returns the value, whose size is checked."""
        if not self.low <= len(value) <= self.high:
            raise ValueError(f"has {len(value)} bytes, not {self.low}-{self.high}")
        return value


class Maybe(Variable):
    """Another field, or None: an earlier `count_of` field says 1 or 0."""

    def __init__(self, inner: Fixed | Variable) -> None:
        self.inner = inner
        self.low, self.high = 0, inner.high
        self.text = f"{inner.text} if flagged"

    def read(self, data: bytes, offset: int, end: int, count: int | None) -> tuple[Any, int]:
        """Returns the value if `count` is 1, None if it is 0."""
        if not count:
            return None, offset
        if count != 1:
            raise WireError("flag", f"{count} is neither 0 nor 1")
        if isinstance(self.inner, Variable):
            return self.inner.read(data, offset, end, None)
        if end - offset < self.inner.low:
            raise WireError("bytes", f"{end - offset} are left, fewer than {self.inner.low}")
        return data[offset : offset + self.inner.low], offset + self.inner.low

    def write(self, value: Any) -> bytes:
        """Returns nothing for None."""
        if value is None:
            return b""
        if isinstance(self.inner, Variable):
            return self.inner.write(value)
        if len(value) != self.inner.low:
            raise ValueError(f"has {len(value)} bytes, not {self.inner.low}")
        return bytes(value)

    def count(self, value: Any) -> int:
        """Returns the flag."""
        return 0 if value is None else 1


U8: TypeAlias = Annotated[int, Number(1)]
U16: TypeAlias = Annotated[int, Number(2)]
U32: TypeAlias = Annotated[int, Number(4)]
U64: TypeAlias = Annotated[int, Number(8)]
Bytes8: TypeAlias = Annotated[bytes, Fixed(8)]
Bytes32: TypeAlias = Annotated[bytes, Fixed(32)]


class Constant(NamedTuple):
    """Marks a number that is always `value`."""

    value: int


class CountOf(NamedTuple):
    """Marks a number that counts the parts of `field`."""

    field: str


def constant(value: int, *, init: Literal[False] = False) -> Any:
    """Declares a number that is always the same: checked when decoding, never passed in."""
    return Constant(value)


def count_of(field: str, *, init: Literal[False] = False) -> Any:
    """Declares a number that counts a later field: its bytes, its items, or whether it is there."""
    return CountOf(field)


class Field(NamedTuple):
    """One field of a compiled layout, for whoever shows packets or makes up samples of them."""

    name: str
    rule: Fixed | Number | Variable
    body: type[Any] | None
    """What is inside, if the field is a box whose content is declared."""
    value: int | None
    """What it always is, if it is a constant."""
    counts: str
    """The field it counts, or empty."""

    @property
    def format(self) -> str:
        """The `struct` format of a field of fixed size."""
        assert not isinstance(self.rule, Variable)
        return self.rule.format

    @property
    def text(self) -> str:
        """The field in words, as the packet reference shows it."""
        if self.value is not None:
            return f"{self.rule.text} = 0x{self.value:02x}"
        if self.counts:
            return f"{self.rule.text}: count of {self.counts}"
        return f"box of {self.body.__name__}" if self.body else self.rule.text
