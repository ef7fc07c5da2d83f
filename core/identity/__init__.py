"""One Tox identity, put together: everything between the wire and what a person sees."""

from core.identity.carrier import Carrier, CarrierHost, CarrierListener
from core.identity.engine import Engine, EngineHost
from core.identity.neighbours import Neighbours
from core.identity.options import EngineOptions

__all__ = [
    "Carrier",
    "CarrierHost",
    "CarrierListener",
    "Engine",
    "EngineHost",
    "EngineOptions",
    "Neighbours",
]
