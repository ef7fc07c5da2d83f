"""What stands at which path of the web door. Everything is written when somebody asks for it."""

import base64
import hashlib
import re
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

import orjson

from toxmesh.children import State
from toxmesh.status import node_state, report
from toxmesh.web import exposition
from toxmesh.web.client import Answer
from toxmesh.web.feed import Feed
from toxmesh.web.metrics import Metrics

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

FRESH_S = 0.5  # an answer this young is given again: heartbeats come once a second
_TEXT = "text/plain; charset=utf-8"


def _hash(part: str) -> str:
    digest = hashlib.sha256(part.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def page() -> Answer:
    """Returns the live page; its policy lets run what stands in the file, and nothing else."""
    text = resources.files("toxmesh.web").joinpath("page.html").read_text("utf-8")
    scripts = [_hash(part) for part in re.findall(r"<script>(.*?)</script>", text, re.S)]
    styles = [_hash(part) for part in re.findall(r"<style>(.*?)</style>", text, re.S)]
    policy = (
        f"default-src 'none'; script-src {' '.join(scripts)}; style-src {' '.join(styles)}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
    headers = (("Content-Security-Policy", policy),)
    return Answer(200, "text/html; charset=utf-8", text.encode(), headers)


class Pages:
    """The paths of one node."""

    def __init__(self, node: "Supervisor") -> None:
        self._node = node
        self._metrics = Metrics()
        self._feed = Feed()
        self._page: Answer | None = None
        self._fresh: dict[str, tuple[float, Answer]] = {}
        self._paths: dict[str, Callable[[], Answer]] = {
            "/metrics": self._write_metrics,
            "/status.json": self._write_status,
        }

    def answer(self, path: str, now: float) -> Answer | None:
        """Returns the answer for a path, None if there is nothing at it."""
        if path == "/":
            if self._page is None:
                self._page = page()
            return self._page
        if path == "/healthz":
            return self._health()
        if path == "/readyz":
            return self._readiness()
        write = self._paths.get(path)
        if write is None:
            return None
        known = self._fresh.get(path)
        if known is not None and 0 <= now - known[0] < FRESH_S:
            return known[1]
        answer = write()
        self._fresh[path] = now, answer
        return answer

    def event(self, now: float) -> bytes:
        """Returns what those who follow are told now."""
        return self._feed.event(report(self._node), self._beats(), now)

    def _beats(self) -> dict[str, dict[str, Any]]:
        """Returns the last heartbeat of each process; an empty one of those that had none."""
        return {row.name: row.beat for row in self._node.children}

    def _write_metrics(self) -> Answer:
        text = self._metrics.render(report(self._node), self._beats())
        return Answer(200, exposition.CONTENT_TYPE, text)

    def _write_status(self) -> Answer:
        body = orjson.dumps(report(self._node), option=orjson.OPT_NON_STR_KEYS)
        return Answer(200, "application/json", body)

    def _missing(self) -> list[str]:
        """Returns the roles of which nobody is at work."""
        rows = self._node.children
        up = {row.role for row in rows if row.state is State.UP}
        return sorted({row.role for row in rows} - up)

    def _health(self) -> Answer:
        """Says whether the node does its work: some process of each role is up."""
        if self._node.stopping:
            return Answer(200, _TEXT, b"stopping\n")
        missing = self._missing()
        if missing and self._node.listening:
            return Answer(503, _TEXT, f"nobody does {', '.join(missing)}\n".encode())
        return Answer(200, _TEXT, b"good\n" if self._node.listening else b"starting\n")

    def _readiness(self) -> Answer:
        """Says whether new clients may be sent here."""
        state = node_state(self._node)
        ready = state in ("good", "degraded")
        return Answer(200 if ready else 503, _TEXT, f"{state}\n".encode())
