"""Bans in one process: prefixes of every length against a plain count of bits, and keys."""

import ipaddress
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import bans
from core.bans import Bans
from core.crypto import KeyBanned, KeyMiss, KeyPair, SharedKeys
from core.endpoint import from_text
from core.entropy import SeededEntropy

_NUMBERS = {4: st.integers(0, (1 << 32) - 1), 6: st.integers(0, (1 << 128) - 1)}


def change(**parts: Any) -> dict[str, Any]:
    return {"whole": False, "add": [], "remove": [], "add_keys": [], "remove_keys": []} | parts


def row(text: str) -> list[Any]:
    network = ipaddress.ip_network(text)
    return [network.network_address.packed, network.prefixlen]


@st.composite
def networks(draw: st.DrawFn) -> Any:
    version = draw(st.sampled_from((4, 6)))
    size = 32 if version == 4 else 128
    number = draw(_NUMBERS[version])
    kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    return ipaddress.ip_network((kind(number), draw(st.integers(0, size))), strict=False)


@given(st.lists(networks(), max_size=12), st.lists(networks(), max_size=6), st.data())
def test_an_address_is_shut_out_if_and_only_if_a_banned_prefix_has_it(
    added: list[Any], removed: list[Any], data: st.DataObject
) -> None:
    made = Bans()
    made.learn(change(add=[row(str(one)) for one in added + removed]))
    made.learn(change(remove=[row(str(one)) for one in removed]))
    left = set(added) - set(removed)
    assert bool(made.prefixes) == bool(left)
    near = [one[data.draw(st.integers(0, min(one.num_addresses - 1, 1 << 60)))] for one in added]
    for address in near:
        expected = any(address in one for one in left if one.version == address.version)
        source = from_text(str(address), 4000)
        if address.version == 6 and getattr(address, "ipv4_mapped", None):
            continue  # as an endpoint it is IPv4
        assert made.covers(source) == expected
        packets, sources = made.admit([b"x"], [source], Counter())
        assert bool(packets) == bool(sources) == (not expected)


def test_a_batch_loses_what_is_banned_and_nothing_else_and_it_is_counted() -> None:
    made, drops = Bans(), Counter[str]()
    made.learn(change(add=[row("192.0.2.0/24"), row("2001:db8::/32")]))
    hosts = ("192.0.2.7", "198.51.100.7", "2001:db8::7", "2001:db9::7")
    sources = [from_text(host, 1) for host in hosts]
    for _ in range(2):
        packets, kept = made.admit([b"a", b"b", b"c", b"d"], sources, drops)
        assert list(packets) == [b"b", b"d"]
        assert list(kept) == [sources[1], sources[3]]
    assert drops == {"banned:prefix": 4}
    made.learn(change(remove=[row("192.0.2.0/24")]))
    packets, _ = made.admit([b"a"], sources[:1], drops)
    assert packets == [b"a"]


def test_what_is_remembered_of_sources_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bans, "_KNOWN", 8)
    made, drops = Bans(), Counter[str]()
    made.learn(change(add=[row("192.0.2.0/24")]))
    for port in range(1, 100):
        made.admit([b"a", b"b"], [from_text("192.0.2.1", port), from_text("::1", port)], drops)
        assert len(made._known) <= 8
    assert drops["banned:prefix"] == 99


def test_all_bans_may_be_told_anew_and_what_is_new_is_said() -> None:
    made = Bans()
    key, other = bytes(range(32)), bytes(32)
    news = made.learn(change(whole=True, add=[row("192.0.2.0/24")], add_keys=[key]))
    assert news == (True, (key,))
    news = made.learn(change(whole=True, add=[row("192.0.2.0/24")], add_keys=[key, other]))
    assert news == (False, (other,))
    made.learn(change(whole=True))
    assert not made.prefixes
    assert not made.keys
    assert not made.covers(from_text("192.0.2.1", 1))


def test_a_banned_key_is_never_at_hand() -> None:
    entropy = SeededEntropy("bans")
    cache = SharedKeys(KeyPair.generate(entropy).secret)
    made = Bans(cache)
    key = KeyPair.generate(entropy).public
    assert cache.sender(key) is not None
    made.learn(change(add_keys=[bytes(key)]))
    for deferring in (False, True):
        cache.deferring = deferring
        with pytest.raises(KeyBanned):
            cache.sender(key)
    assert cache.get(key) is None
    assert cache.known(key) is None
    with pytest.raises(KeyBanned):
        cache.sender(key)
    made.learn(change(remove_keys=[bytes(key)]))
    with pytest.raises(KeyMiss):
        cache.sender(key)
    cache.deferring = False
    assert cache.sender(key) is not None
