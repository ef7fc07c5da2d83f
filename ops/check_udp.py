"""The checks `ping` and `udp`: does a node answer what every node answers?"""

from core.crypto import PublicKey
from core.endpoint import Endpoint
from ops import screen
from ops.check_asker import Asker
from ops.check_outcome import FAILED, GOOD, SILENT, Outcome, milliseconds

_MAKERS = {1: "tox-bootstrapd", 2: "toxmesh", 3: "tox-node"}
"""By the leading digit of ten: c-toxcore's global.h has the scheme; its 1, ours and tox-node's."""


def ping(asker: Asker, place: Endpoint, key: PublicKey) -> Outcome:
    """A DHT ping and its answer."""
    heard = asker.exchange(place, asker.ping(key))
    if heard is None:
        return unheard("ping", asker, place)
    lost = f", {heard.tries - 1} unanswered before" if heard.tries > 1 else ""
    return Outcome("ping", GOOD, f"a DHT ping is answered{lost}", heard.rtt_s)


def software_of(version: int) -> str:
    """Returns `tox-bootstrapd 0.2.18` for 1000002018, `version 7` for a number of another kind."""
    maker, digits = divmod(version, 1_000_000_000)
    if maker not in _MAKERS:
        return f"version {version}"
    return f"{_MAKERS[maker]} {digits // 1_000_000}.{digits // 1000 % 1000}.{digits % 1000}"


def unheard(check: str, asker: Asker, place: Endpoint) -> Outcome:
    """Tells why pings are not answered; the bootstrap info takes no key."""
    answered = None if asker.is_refused(place) else asker.exchange(place, asker.info)
    if answered is not None:
        text = "a node is there, but it does not have this public key, or is being drained"
        return Outcome(check, FAILED, text, unreached=True)
    if asker.is_refused(place):
        text = "nobody listens on this UDP port: the network says so"
    else:
        text = "nothing is heard over UDP: is it up, and does its firewall let UDP through?"
    return Outcome(check, SILENT, text, unreached=True)


def udp(asker: Asker, place: Endpoint, key: PublicKey) -> Outcome:
    """A ping, a search for nodes near a random key, and the bootstrap info.

    The info alone may be missing: clients do not have any, and bootstrap nodes may switch it off.
    """
    pinged = asker.exchange(place, asker.ping(key))
    if pinged is None:
        return unheard("udp", asker, place)
    searched = PublicKey(asker.entropy.bytes(32))
    named = asker.exchange(place, asker.nodes(key, searched))
    info = asker.exchange(place, asker.info)
    if info is None:
        about, details = "no bootstrap info", {}
    else:
        motd = info.value.motd.split(b"\0", 1)[0].decode("utf-8", "replace")
        software = software_of(info.value.version)
        about = f"{software}, {screen.plain(motd)!r}"
        details = {"version": info.value.version, "software": software, "motd": motd}
    if named is None:
        return Outcome(
            "udp",
            FAILED,
            f"pings are answered ({milliseconds(pinged.rtt_s)}), requests for nodes are not; "
            + about,
            details=details,
        )
    count = len(named.value)
    nodes = f"names {count} node{'' if count == 1 else 's'}" if count else "knows no other node"
    return Outcome(
        "udp", GOOD, f"{nodes}; {about}", named.rtt_s, {"nodes": count, **details}
    )
