"""One Tox identity, put together: everything between the wire and what a person sees."""

from core.identity.engine import Engine, EngineHost, EngineOptions

__all__ = ["Engine", "EngineHost", "EngineOptions"]
