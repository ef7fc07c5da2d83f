"""What a table of costs does not show: many idle clients, floods, starting, more workers.

Each scenario starts nodes of its own through a `Place` and returns an `Outcome`: figures, and the
bars that they have to keep.
"""

from collections.abc import Callable

from toxmesh.bench.scenarios.first_contact import first_contact
from toxmesh.bench.scenarios.idle import idle
from toxmesh.bench.scenarios.outcome import Bar, Outcome, Place
from toxmesh.bench.scenarios.relay_flood import relay_flood
from toxmesh.bench.scenarios.scale import scale
from toxmesh.bench.scenarios.start import start
from toxmesh.bench.scenarios.udp_flood import udp_flood

SCENARIOS: dict[str, Callable[[Place], Outcome]] = {
    "idle": idle,
    "first-contact": first_contact,
    "udp-flood": udp_flood,
    "relay-flood": relay_flood,
    "start": start,
    "scale": scale,
}
"""All scenarios by name."""

__all__ = ["SCENARIOS", "Bar", "Outcome", "Place"]
