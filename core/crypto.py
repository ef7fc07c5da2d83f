"""Keys, boxes, nonces and hashes: the only door to libsodium in this project.

The hot calls go straight to the libsodium inside PyNaCl with preallocated buffers (a small box
costs 0.7 us instead of 1.8). That entrance is private to PyNaCl, so it is tried against the public
bindings at import, and these take over where it does not give the same bytes.
"""

import hashlib
import hmac
import mmap
from collections.abc import Callable, Container, Iterable
from typing import Any, NamedTuple, NewType

import nacl.bindings
from nacl.exceptions import CryptoError

from core.entropy import Entropy

KEY_SIZE = 32  # NaCl: curve25519 keys and their product
NONCE_SIZE = 24  # NaCl: xsalsa20
MAC_SIZE = 16  # NaCl: poly1305
TAG_SIZE = 32  # c-toxcore crypto_core.h: CRYPTO_HMAC_SIZE
_SCRATCH_SIZE = 70_000  # greater than any datagram or relay frame

PublicKey = NewType("PublicKey", bytes)
SharedKey = NewType("SharedKey", bytes)
"""Key of a box: the product of one secret and one public key, or a random key of our own."""
Nonce = NewType("Nonce", bytes)

NO_KEY = PublicKey(bytes(KEY_SIZE))

_P = 2**255 - 19  # RFC 7748, section 4.1: the field of curve25519
_ORDER_8 = (  # the two points of order 8.  libsodium x25519_ref10.c: has_small_order
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
LOW_ORDER = frozenset(
    PublicKey((point | top << 255).to_bytes(KEY_SIZE, "little"))
    for point in (0, 1, *_ORDER_8, _P - 1, _P, _P + 1)
    for top in (0, 1)  # RFC 7748, section 5: the top bit is ignored
)
"""All 14 encodings of points with which every secret key has the same product, zero."""


class KeyMiss(Exception):
    """The sender's combined key is not at hand, and is not to be computed now: no error."""


class KeyBanned(Exception):
    """The sender's key is one that the operator has banned: its packet is refused."""


class SecretKey:
    """A secret key that cannot be printed by accident."""

    __slots__ = ("_material",)

    def __init__(self, material: bytes) -> None:
        if len(material) != KEY_SIZE:
            raise ValueError(f"a secret key has {KEY_SIZE} bytes, not {len(material)}")
        self._material = bytes(material)

    def reveal(self) -> bytes:
        """Returns the 32 secret bytes; for cryptography and the keys file alone."""
        return self._material

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretKey) and equal(self._material, other._material)

    def __hash__(self) -> int:
        return hash((SecretKey, self._material))

    def __repr__(self) -> str:
        return "SecretKey(hidden)"

    def __reduce__(self) -> str:
        raise TypeError("a secret key is not pickled")


class KeyPair(NamedTuple):
    """A public key and the secret key it belongs to."""

    public: PublicKey
    secret: SecretKey

    @classmethod
    def from_secret(cls, secret: bytes) -> "KeyPair":
        """Computes the public half of a 32-byte secret key (16 us)."""
        hidden = SecretKey(secret)  # checks the size
        return cls(_public_half(secret), hidden)

    @classmethod
    def generate(cls, entropy: Entropy) -> "KeyPair":
        """Makes a new key pair from 32 bytes of `entropy`."""
        return cls.from_secret(entropy.bytes(KEY_SIZE))


def precompute(secret: SecretKey, public: bytes) -> SharedKey | None:
    """Returns the combined key of both, or None for a public key of low order (31 us)."""
    return _agree(secret.reveal(), public)


def _public_half_public(secret: bytes) -> PublicKey:
    return PublicKey(nacl.bindings.crypto_scalarmult_base(secret))


def _agree_public(secret: bytes, public: bytes) -> SharedKey | None:
    try:
        return SharedKey(nacl.bindings.crypto_box_beforenm(public, secret))
    except (CryptoError, RuntimeError):
        return None


def _seal_public(shared: bytes, nonce: bytes, plain: bytes) -> bytes:
    return nacl.bindings.crypto_box_afternm(plain, nonce, shared)


def _open_public(shared: bytes, nonce: bytes, sealed: bytes) -> bytes | None:
    if len(sealed) < MAC_SIZE:
        return None
    try:
        return nacl.bindings.crypto_box_open_afternm(sealed, nonce, shared)
    except CryptoError:
        return None


_Seal = Callable[[SharedKey, bytes, bytes], bytes]
_Open = Callable[[SharedKey, bytes, bytes], bytes | None]


class _Backend(NamedTuple):
    """One way to libsodium; keys and nonces of a wrong size never reach it."""

    seal: _Seal
    open: _Open
    agree: Callable[[bytes, bytes], SharedKey | None]
    public_half: Callable[[bytes], PublicKey]


_BINDINGS = _Backend(_seal_public, _open_public, _agree_public, _public_half_public)


def _direct_backend() -> _Backend | None:
    """Returns the calls on PyNaCl's own libsodium, or None where it cannot be reached."""
    try:
        from nacl._sodium import ffi, lib

        scratch = ffi.new("unsigned char[]", _SCRATCH_SIZE)
        window = ffi.buffer(scratch, _SCRATCH_SIZE)
        product = ffi.new("unsigned char[]", KEY_SIZE)
        product_window = ffi.buffer(product, KEY_SIZE)
        box = lib.crypto_box_easy_afternm
        unbox = lib.crypto_box_open_easy_afternm
        beforenm = lib.crypto_box_beforenm
        multiply_base = lib.crypto_scalarmult_base
    except (ImportError, AttributeError):
        return None

    def seal(shared: bytes, nonce: bytes, plain: bytes) -> bytes:
        size = len(plain)
        if len(shared) != KEY_SIZE or len(nonce) != NONCE_SIZE or size > _SCRATCH_SIZE - MAC_SIZE:
            raise ValueError("wrong size of key, nonce or text")
        box(scratch, plain, size, nonce, shared)
        sealed: bytes = window[: size + MAC_SIZE]
        return sealed

    def open_(shared: bytes, nonce: bytes, sealed: bytes) -> bytes | None:
        size = len(sealed)
        if len(shared) != KEY_SIZE or len(nonce) != NONCE_SIZE:
            raise ValueError("wrong size of key or nonce")
        if size < MAC_SIZE or size > _SCRATCH_SIZE:
            return None
        if unbox(scratch, sealed, size, nonce, shared):
            return None
        plain: bytes = window[: size - MAC_SIZE]
        return plain

    def agree(secret: bytes, public: bytes) -> SharedKey | None:
        if len(secret) != KEY_SIZE or len(public) != KEY_SIZE:
            return None
        if beforenm(product, public, secret):
            return None
        shared: SharedKey = product_window[:]
        return shared

    def public_half(secret: bytes) -> PublicKey:
        if len(secret) != KEY_SIZE or multiply_base(product, secret):
            raise ValueError("wrong size of secret key")
        half: PublicKey = product_window[:]
        return half

    backend = _Backend(seal, open_, agree, public_half)
    return backend if _same_bytes(backend, _BINDINGS) else None


def _same_bytes(one: _Backend, other: _Backend) -> bool:
    """Tells whether both do the same with a few keys and texts, and refuse the same."""
    key, nonce = SharedKey(bytes(range(32))), bytes(range(24))
    try:
        for size in (0, 1, 9, 80, 1400):
            text = bytes(i & 0xFF for i in range(size))
            sealed = one.seal(key, nonce, text)
            broken = bytes([sealed[0] ^ 1]) + sealed[1:]
            if sealed != other.seal(key, nonce, text) or one.open(key, nonce, sealed) != text:
                return False
            if one.open(key, nonce, broken) is not None:
                return False
        public = one.public_half(key)
        return (
            public == other.public_half(key)
            and one.agree(key, public) == other.agree(key, public) is not None
            and one.agree(key, _P.to_bytes(KEY_SIZE, "little")) is None
        )
    except (TypeError, AttributeError, ValueError):
        return False


class BoxArena(NamedTuple):
    """Memory in which boxes are opened and sealed where they lie: a relayed frame is never copied.

    A box is MAC and text; positions and sizes are in bytes. Nothing outside the memory and the
    source is ever touched: a place beyond them is a ValueError.
    """

    memory: mmap.mmap
    source: Callable[[bytes], Any]
    """source(data): what `open` takes boxes from; valid as long as `data` is."""
    open: Callable[[int, Any, int, int, bytes, bytes], bool]
    """open(at, source, position, size, nonce, key): puts the text of the box of `size` bytes at
    `position` of the source into the memory at `at`; False if this key and nonce did not seal it,
    and then nothing there means anything."""
    seal: Callable[[int, int, bytes, bytes], None]
    """seal(at, size, nonce, key): seals the text of `size` bytes at `at` + 16; its box begins
    at `at`."""


def box_arena(capacity: int) -> BoxArena:
    """Makes an arena; its pages cost nothing before they are first used."""
    return _direct_arena(capacity) if _direct else _public_arena(capacity)


def _direct_arena(capacity: int) -> BoxArena:
    from nacl._sodium import ffi, lib

    memory = mmap.mmap(-1, capacity)
    base = ffi.from_buffer("unsigned char[]", memory, require_writable=True)
    box = lib.crypto_box_easy_afternm
    unbox = lib.crypto_box_open_easy_afternm

    def source(data: bytes) -> Any:
        return ffi.from_buffer("unsigned char[]", data)

    def open_(at: int, source: Any, position: int, size: int, nonce: bytes, key: bytes) -> bool:
        if size < MAC_SIZE:
            return False
        if at < 0 or at + size > capacity or position < 0 or position + size > len(source):
            raise ValueError("a box outside of its memory")
        if len(key) != KEY_SIZE or len(nonce) != NONCE_SIZE:
            raise ValueError("wrong size of key or nonce")
        return not unbox(base + at, source + position, size, nonce, key)

    def seal(at: int, size: int, nonce: bytes, key: bytes) -> None:
        if at < 0 or size < 0 or at + size + MAC_SIZE > capacity:
            raise ValueError("a box outside of its memory")
        if len(key) != KEY_SIZE or len(nonce) != NONCE_SIZE:
            raise ValueError("wrong size of key or nonce")
        place = base + at
        box(place, place + MAC_SIZE, size, nonce, key)

    return BoxArena(memory, source, open_, seal)


def _public_arena(capacity: int) -> BoxArena:
    """The same by way of the public bindings, with copies."""
    memory = mmap.mmap(-1, capacity)

    def open_(at: int, source: Any, position: int, size: int, nonce: bytes, key: bytes) -> bool:
        if size < MAC_SIZE:
            return False
        if at < 0 or at + size > capacity or position < 0 or position + size > len(source):
            raise ValueError("a box outside of its memory")
        text = _open_public(key, nonce, bytes(source[position : position + size]))
        if text is None:
            return False
        memory[at : at + len(text)] = text
        return True

    def seal(at: int, size: int, nonce: bytes, key: bytes) -> None:
        if at < 0 or size < 0 or at + size + MAC_SIZE > capacity:
            raise ValueError("a box outside of its memory")
        text = memory[at + MAC_SIZE : at + MAC_SIZE + size]
        memory[at : at + MAC_SIZE + size] = _seal_public(key, nonce, text)

    return BoxArena(memory, memoryview, open_, seal)


_direct = _direct_backend()
BACKEND = "direct" if _direct else "bindings"
"""Which of the two ways to libsodium is in use; `ops doctor` shows it."""

_seal, _open, _agree, _public_half = _direct or _BINDINGS


seal: _Seal = _seal
"""seal(key, nonce, plain): the text boxed with a combined or own symmetric key, MAC first."""

open_sealed: _Open = _open
"""open_sealed(key, nonce, sealed): the text, or None if this key and nonce did not seal it."""


def seal_file(key: SharedKey, nonce: bytes, plain: bytes) -> bytes:
    """Returns a text of any size boxed, MAC first; `seal` takes up to 69,984 bytes, and faster."""
    return _seal_public(key, nonce, plain)


def open_file(key: SharedKey, nonce: bytes, sealed: bytes) -> bytes | None:
    """Returns the text of a box of any size, or None if this key and nonce did not seal it."""
    return _open_public(key, nonce, sealed)


def passphrase_key(passphrase: bytes, salt: bytes) -> SharedKey:
    """Returns the key that a passphrase gives with a salt, as files of clients want it.

    scrypt over the SHA-256 of the passphrase, with what libsodium makes of twice its interactive
    operations and its interactive memory (c-toxcore toxencryptsave.c): 16 MiB, some 0.1 s.
    """
    digest = sha256(passphrase)
    key = hashlib.scrypt(
        digest, salt=salt, n=1 << 14, r=8, p=2, maxmem=64 << 20, dklen=KEY_SIZE
    )
    return SharedKey(key)


def increment(nonce: Nonce, by: int = 1) -> Nonce:
    """Returns the nonce as a big-endian number plus `by`; the greatest wraps to zero."""
    return Nonce(((int.from_bytes(nonce, "big") + by) % (1 << 192)).to_bytes(NONCE_SIZE, "big"))


def sha256(data: bytes) -> bytes:
    """Returns the 32-byte SHA-256 of `data`."""
    return hashlib.sha256(data).digest()


def sha512(data: bytes) -> bytes:
    """Returns the 64-byte SHA-512 of `data`."""
    return hashlib.sha512(data).digest()


def tag(key: bytes, data: bytes) -> bytes:
    """Returns the 32-byte HMAC-SHA512-256 of `data`: libsodium's `crypto_auth`."""
    return hmac.digest(key, data, "sha512")[:TAG_SIZE]


class Tagger:
    """Makes 32-byte tags of `head` and data: keyed BLAKE2b (RFC 7693).

    For tags that only we ourselves read: 0.4 us each, where HMAC costs 2.3.
    """

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes, head: bytes = b"") -> None:
        self._keyed = hashlib.blake2b(head, key=key, digest_size=TAG_SIZE)

    def make(self, data: bytes) -> bytes:
        """Returns the tag of some data."""
        state = self._keyed.copy()
        state.update(data)
        return state.digest()


def equal(left: bytes, right: bytes) -> bool:
    """Compares two secrets in a time that does not tell where they differ."""
    return hmac.compare_digest(left, right)


def derive_key(master: bytes, purpose: str, epoch: int = 0) -> SharedKey:
    """Returns the key that all shards use for `purpose` in `epoch`, without asking one another."""
    return SharedKey(tag(master, purpose.encode() + b"\0" + epoch.to_bytes(8, "big")))


class SharedKeys:
    """Combined keys of one secret key with its peers: a bounded cache for all kinds of packets.

    Two generations instead of a linked list: a key that is used moves to the young one, and when
    that is full the old one is forgotten whole. It holds at most `capacity` keys and never forgets
    one of the half as many that were used last: with 100,000 busy clients a smaller cache than the
    default would miss each time (46 us instead of 13 per request; `tests.bench --keys 100000`).
    """

    __slots__ = (
        "_half", "_old", "_secret", "_young", "banned", "deferring", "hits", "missed", "misses"
    )  # fmt: skip

    def __init__(self, secret: SecretKey, capacity: int = 250_000) -> None:
        self._secret = secret
        self._half = max(1, capacity // 2)
        self._young: dict[bytes, SharedKey] = {}
        self._old: dict[bytes, SharedKey] = {}
        self.banned: Container[bytes] = ()
        """Keys that are never at hand (`core.bans`)."""
        self.deferring = False
        """Whether `sender` leaves new keys for later: set while a batch of datagrams is handled."""
        self.missed = b""
        """The public key for which `sender` raised KeyMiss last."""
        self.hits = 0
        """How often a key was at hand."""
        self.misses = 0
        """How many keys had to be computed."""

    def sender(self, public: bytes) -> SharedKey | None:
        """Returns the combined key with a packet's sender, or None for a key of low order.

        To be asked before the packet has any effect: while `deferring`, a key that is not at hand
        raises KeyMiss, and the whole packet is given again when its key's turn has come. A banned
        key raises KeyBanned.
        """
        shared = self._young.get(public)
        if shared is not None:
            self.hits += 1
            return shared
        if public in self.banned:
            raise KeyBanned
        if self.deferring and public not in self._old and public not in LOW_ORDER:
            self.missed = public
            raise KeyMiss
        return self.get(public)

    def compute(self, publics: Iterable[bytes]) -> int:
        """Computes the combined keys of senders who wait for theirs; returns how many were new.

        All before the first of their packets is opened: what takes 31 us of curve arithmetic
        leaves little of anything else in the processor's nearest caches.
        """
        agree, secret = _agree, self._secret.reveal()
        before = self.misses
        for public in publics:
            if public in self._young or public in self._old or public in self.banned:
                continue
            shared = agree(secret, public)
            if shared is not None:
                self.misses += 1
                self._keep(public, shared)
        return self.misses - before

    def get(self, public: bytes) -> SharedKey | None:
        """Returns the combined key with `public`, or None for one of low order or a banned one."""
        shared = self._young.get(public)
        if shared is not None:
            self.hits += 1
            return shared
        shared = self._old.pop(public, None)
        if shared is None:
            if public in LOW_ORDER or public in self.banned:
                return None
            self.misses += 1
            shared = precompute(self._secret, public)
            if shared is None:
                return None
        else:
            self.hits += 1
        self._keep(public, shared)
        return shared

    def _keep(self, public: bytes, shared: SharedKey) -> None:
        if len(self._young) >= self._half:
            self._old = self._young
            self._young = {}
        self._young[public] = shared

    def forget(self, public: bytes) -> None:
        """Lets go of one key."""
        self._young.pop(public, None)
        self._old.pop(public, None)

    def known(self, public: bytes) -> SharedKey | None:
        """Returns the combined key if it is at hand, without any curve arithmetic."""
        return self._young.get(public) or self._old.get(public)

    def counts(self) -> dict[str, int]:
        """Returns how many keys are at hand, how often they were, and how often one was not."""
        return {"size": len(self), "hits": self.hits, "misses": self.misses}

    @property
    def capacity(self) -> int:
        """How many keys there may be."""
        return 2 * self._half

    @capacity.setter
    def capacity(self, value: int) -> None:
        """Sets it; what is too many goes as new keys come."""
        self._half = max(1, value // 2)

    def generations(self) -> tuple[dict[bytes, SharedKey], dict[bytes, SharedKey]]:
        """Returns the young and the old keys, to be looked at alone."""
        return self._young, self._old

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
