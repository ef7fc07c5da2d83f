"""The layout vocabulary of packets, and the compiler that makes encoders and decoders of it.

A packet is declared once, as a class whose annotations are its layout:

    class PingRequestBody(Body):
        type: U8 = constant(0x00)
        ping_id: Bytes8

The compiler runs when the class is made. Whatever bytes come in, `decode` gives an instance that
encodes to the same bytes, or raises WireError; it never reads past the end.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    NamedTuple,
    Self,
    TypeAlias,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from core import crypto
from core.wire_compiler import compile_layout
from core.wire_rules import (
    U8,
    U16,
    U32,
    U64,
    Bytes8,
    Bytes32,
    Constant,
    CountOf,
    Field,
    Fixed,
    Maybe,
    Number,
    Rest,
    Run,
    Variable,
    WireError,
    constant,
    count_of,
)

__all__ = [
    "U8",
    "U16",
    "U32",
    "U64",
    "UDP_PACKETS",
    "Body",
    "Bytes8",
    "Bytes32",
    "Field",
    "Fixed",
    "Maybe",
    "Nested",
    "Number",
    "Packet",
    "Record",
    "Rest",
    "Route",
    "Run",
    "Sealed",
    "Several",
    "Variable",
    "WireError",
    "constant",
    "count_of",
    "packet",
    "routes",
]

B = TypeVar("B", bound="Body")


class SealedBytes(bytes, Generic[B]):
    """Only a name for the type checker: the bytes of a box with a body of class B inside."""


Sealed: TypeAlias = Union[bytes, SealedBytes[B]]  # noqa: UP007  # subscripted with a class later
"""`Sealed[PingRequestBody]`: plain bytes, exactly as large as that body and its MAC can be."""


@dataclass_transform(frozen_default=True, field_specifiers=(constant, count_of))
class Record:
    """A declared layout. Instances are values: equal and hashable by their fields."""

    FIELDS: ClassVar[tuple[Field, ...]] = ()
    MIN_SIZE: ClassVar[int] = 0
    MAX_SIZE: ClassVar[int] = 0
    kind: ClassVar[int | None] = None
    """The byte in front of the fields, or None."""
    _limit: ClassVar[int | None] = None

    def __init_subclass__(
        cls,
        kind: int | None = None,
        max_size: int | None = None,
        abstract: bool = False,
        **options: Any,
    ) -> None:
        super().__init_subclass__(**options)
        if abstract:
            return
        cls.kind, cls._limit = kind, max_size
        _compile(cls)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Returns the packet that `data` is. Raises WireError."""
        raise NotImplementedError

    @classmethod
    def read(cls, data: bytes, offset: int, end: int) -> tuple[Self, int]:
        """Reads one inside other bytes; returns the offset behind it. Raises WireError."""
        raise NotImplementedError

    def encode(self) -> bytes:
        """Returns the bytes. ValueError if a field has not the size or value it may have."""
        raise NotImplementedError

    def values(self) -> Iterator[tuple[str, Any]]:
        """Yields name and value of each field that is passed in."""
        for field in self.FIELDS:
            if field.value is None and not field.counts:
                yield field.name, getattr(self, field.name)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return list(self.values()) == list(other.values())

    def __hash__(self) -> int:
        return hash((type(self), *(value for _, value in self.values())))

    def __repr__(self) -> str:
        shown = (
            f"{name}={value.hex() if isinstance(value, bytes) else repr(value)}"
            for name, value in self.values()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class Body(Record, abstract=True):
    """What is inside a box."""

    @classmethod
    def open(cls, shared: crypto.SharedKey, nonce: bytes, sealed: bytes) -> Self:
        """Opens the box and decodes what is inside. Raises WireError."""
        plain = crypto.open_sealed(shared, nonce, sealed)
        if plain is None:
            raise WireError(cls.__name__, f"a box of {len(sealed)} bytes does not open")
        return cls.decode(plain)

    def seal(self, shared: crypto.SharedKey, nonce: bytes) -> SealedBytes[Self]:
        """Encodes the body and seals it."""
        sealed: Any = crypto.seal(shared, nonce, self.encode())  # plain bytes in truth
        return sealed  # type: ignore[no-any-return]  # SealedBytes is a name for the checker only


class Route(NamedTuple):
    """Where a datagram of one kind goes."""

    role: str
    slot_byte: int | None
    """Index of the byte whose slot decides the shard; None: shard 0. A datagram that ends before
    that byte goes to shard 0 too."""
    min_size: int
    max_size: int


class Packet(Record, abstract=True):
    """A datagram with its kind in the first byte."""

    kind: ClassVar[int]
    role: ClassVar[str] = ""
    slot_byte: ClassVar[int | None] = None


UDP_PACKETS: dict[int, tuple[type[Packet], ...]] = {}
"""Every declared UDP packet by its first byte (0xf0 has two: request and answer)."""

P = TypeVar("P", bound=type[Packet])


def packet(kind: int, role: str = "", slot_byte: int | None = None) -> Callable[[P], P]:
    """Gives a class its kind byte and enters it into the table of UDP packets.

    `role` is the worker role that is sent such datagrams; empty: nobody asks for them yet.
    """

    def register(cls: P) -> P:
        cls.kind, cls.role, cls.slot_byte = kind, role, slot_byte
        _compile(cls)
        UDP_PACKETS[kind] = (*UDP_PACKETS.get(kind, ()), cls)
        return cls

    return register


def routes() -> dict[int, Route]:
    """Returns the route of each kind that some role takes."""
    table = {}
    for kind, classes in UDP_PACKETS.items():
        first = classes[0]
        if first.role:
            low = min(cls.MIN_SIZE for cls in classes)
            high = max(cls.MAX_SIZE for cls in classes)
            table[kind] = Route(first.role, first.slot_byte, low, high)
    return table


class Several(Variable):
    """Up to `most` records, one behind the other, up to the end."""

    greedy = True

    def __init__(self, record: "type[Record]", most: int) -> None:
        self.record, self.most = record, most
        self.low, self.high = 0, most * record.MAX_SIZE
        self.text = f"0-{most} {record.__name__}"

    def read(self, data: bytes, offset: int, end: int, count: int | None) -> tuple[Any, int]:
        """Takes records until the end."""
        found: list[Record] = []
        while offset < end:
            if len(found) == self.most:
                raise WireError(self.record.__name__, f"{end - offset} bytes behind {self.most}")
            one, offset = self.record.read(data, offset, end)
            found.append(one)
        return tuple(found), offset

    def write(self, value: "tuple[Record, ...]") -> bytes:
        """Returns the records' bytes."""
        if len(value) > self.most:
            raise ValueError(f"{len(value)} records, more than {self.most}")
        return b"".join(one.encode() for one in value)


class Nested(Variable):
    """One record inside another: written as an annotation with the record's class."""

    def __init__(self, record: "type[Record]") -> None:
        self.record = record
        self.low, self.high = record.MIN_SIZE, record.MAX_SIZE
        self.text = record.__name__

    def read(self, data: bytes, offset: int, end: int, count: int | None) -> tuple[Any, int]:
        """Reads the record."""
        return self.record.read(data, offset, end)

    def write(self, value: "Record") -> bytes:
        """Returns the record's bytes."""
        return value.encode()


# From annotations to fields


def _rule_of(hint: Any) -> tuple[Fixed | Number | Variable, type[Body] | None]:
    """Finds the layout rule in an annotation."""
    if hint is crypto.PublicKey:
        return Fixed(crypto.KEY_SIZE), None
    if hint is crypto.Nonce:
        return Fixed(crypto.NONCE_SIZE), None
    if get_origin(hint) is Annotated:
        for mark in get_args(hint)[1:]:
            if isinstance(mark, Fixed | Number | Variable):
                return mark, None
    if get_origin(hint) is Union:
        for member in get_args(hint):
            if get_origin(member) is SealedBytes:
                body = get_args(member)[0]
                low, high = body.MIN_SIZE + crypto.MAC_SIZE, body.MAX_SIZE + crypto.MAC_SIZE
                return (Fixed(low) if low == high else Rest(low, high)), body
    if isinstance(hint, type) and issubclass(hint, Record):
        return Nested(hint), None
    raise TypeError(f"{hint!r} is no layout")


def _fields_of(cls: type[Record]) -> list[Field]:
    fields: list[Field] = []
    hints = get_type_hints(cls, include_extras=True)
    for name in inspect.get_annotations(cls):
        hint = hints[name]
        if get_origin(hint) is ClassVar:
            continue
        rule, body = _rule_of(hint)
        mark = cls.__dict__.get(name)
        if isinstance(mark, property):
            mark = getattr(mark.fget, "mark", None)
        value = mark.value if isinstance(mark, Constant) else None
        if value is None and isinstance(mark, int) and isinstance(rule, Number):
            value = mark
        counts = mark.field if isinstance(mark, CountOf) else ""
        fields.append(Field(name, rule, body, value, counts))
    return fields


def _compile(cls: type[Record]) -> None:
    """Gives the class its `__init__`, `decode`, `read` and `encode`."""
    fields = _fields_of(cls)
    head = 0 if cls.kind is None else 1
    cls.FIELDS = tuple(fields)
    cls.MIN_SIZE = head + sum(field.rule.low for field in fields)
    cls.MAX_SIZE = head + sum(field.rule.high for field in fields)
    if cls._limit is not None:
        cls.MAX_SIZE = min(cls.MAX_SIZE, cls._limit)
    made = compile_layout(cls.__name__, cls.kind, fields, cls.MIN_SIZE, cls.MAX_SIZE)
    for field in fields:
        if field.value is not None:
            setattr(cls, field.name, field.value)
        elif field.counts:
            setattr(cls, field.name, _counter(fields, field))
    for name in ("decode", "read"):
        setattr(cls, name, classmethod(made[name]))
    for name, function in (("__init__", made["init"]), ("encode", made["encode"])):
        setattr(cls, name, function)


def _counter(fields: list[Field], field: Field) -> property:
    target = next(one for one in fields if one.name == field.counts)
    assert isinstance(target.rule, Variable)
    rule, name = target.rule, target.name

    def count(self: Any) -> int:
        return rule.count(getattr(self, name))

    count.mark = CountOf(name)  # type: ignore[attr-defined]  # found again by _fields_of
    return property(count)
