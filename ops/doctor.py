"""What `toxmesh ops doctor` does: looks at everything a node stands on, and tells what mends it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ops import doctor_files, doctor_network, doctor_packages, doctor_system
from ops.client import NO_PERMISSION
from ops.doctor_machine import DENY, FAIL, OK, WARN, Finding, Machine

CODES = {OK: 0, WARN: 1, DENY: NO_PERMISSION, FAIL: 2}
"""By verdict, the worst last: what fails is told before what could not be looked at."""
_ORDER = list(CODES)

_LOOKS: tuple[Callable[[Machine], Iterable[Finding]], ...] = (
    lambda machine: [doctor_files.node(machine)],
    doctor_files.files,
    doctor_network.ports,
    doctor_network.ipv6,
    doctor_network.firewall,
    doctor_system.buffers,
    doctor_system.descriptors,
    doctor_system.cores,
    doctor_system.memory,
    doctor_system.clock,
    doctor_system.service,
    doctor_packages.packages,
    doctor_packages.own,
    doctor_packages.sodium,
)


def examine(machine: Machine) -> Iterator[Finding]:
    """Yields all findings, in the order in which a person would look."""
    for look in _LOOKS:
        yield from look(machine)


def verdict(findings: Iterable[Finding]) -> str:
    """Returns the worst verdict."""
    return max((row.verdict for row in findings), key=_ORDER.index, default=OK)


def plain(findings: list[Finding]) -> dict[str, Any]:
    """Returns what JSON takes."""
    worst = verdict(findings)
    return {
        "version": 1,
        "verdict": worst,
        "exit": CODES[worst],
        "findings": [row._asdict() for row in findings],
    }
