"""Templates of the message of the day: which names may stand in them, and how long they may be.

The names are those of tox-node, so that its messages can be taken over as they are.
"""

import re
from collections.abc import Mapping

MAX_SIZE = 255  # bytes; c-toxcore bootstrap_node_packets.h: MAX_MOTD_LENGTH, less its final NUL
MAX_TEMPLATE = 1024  # bytes

NAMES: Mapping[str, str] = {
    "start_date": "2026-11-21 15:22:59 UTC",
    "uptime": "1234 days 12 hours 34 minutes",
    "tcp_packets_in": "9" * 12,
    "tcp_packets_out": "9" * 12,
    "udp_packets_in": "9" * 15,
    "udp_packets_out": "9" * 15,
}
"""What may stand in `{{ }}` (tox-node, README: MOTD), and about the longest text for each."""

_NAME = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")


def names_in(template: str) -> list[str]:
    """Returns what stands in braces, whether it is known or not."""
    return _NAME.findall(template)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Returns the text with values in the place of names."""
    return _NAME.sub(lambda match: values.get(match[1], match[0]), template)


def problem(template: str) -> str:
    """Returns what is wrong with a template, as the end of a sentence; empty: nothing."""
    unknown = [name for name in names_in(template) if name not in NAMES]
    if unknown:
        return f"has no value for {{{{{unknown[0][:40]}}}}}; names are {', '.join(NAMES)}"
    if any(ord(letter) < 32 and letter != "\n" for letter in template):
        return "must not contain control characters"
    size = len(template.encode("utf-8", "replace"))
    if size > MAX_TEMPLATE:
        return f"must have at most {MAX_TEMPLATE} bytes, not {size}"
    size = len(fill(template, NAMES).encode("utf-8", "replace"))
    if size > MAX_SIZE:
        filled = " when it is filled in" if names_in(template) else ""
        return f"must have at most {MAX_SIZE} bytes{filled}, not {size}"
    return ""


def duration(seconds: float) -> str:
    """Returns `3 days 4 hours 5 minutes`, as tox-node has it."""
    minutes = int(seconds) // 60
    return f"{minutes // 1440} days {minutes // 60 % 24} hours {minutes % 60} minutes"


def known(template: str) -> str:
    """Returns a template without the names that have no value here."""
    return _NAME.sub(lambda match: match[0] if match[1] in NAMES else "", template)


def fitting(template: str) -> str:
    """Returns as much of the beginning of a template as fits when it is filled in."""
    template = template.encode("utf-8", "replace")[:MAX_TEMPLATE].decode("utf-8", "ignore")
    while problem(template):
        template = template[:-1]
    return template
