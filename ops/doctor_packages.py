"""Packages: are they there, new enough, once each, and as their makers packed them?

toxmesh's own packages have plain names such as `core`: another distribution installed into the
same environment can put its files in their place.
"""

import base64
import hashlib
import importlib.util
import re
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from ops.doctor_machine import Finding, Machine, fail, ok, warn

NEEDED = {
    "pynacl": "1.6",
    "pyzmq": "27",
    "msgpack": "1.1",
    "orjson": "3.10",
    "psutil": "6",
    "cffi": "1.16",
    "click": "8.1",
    "pydantic": "2.9",
    "h11": "0.14",
}
"""Least versions, as pyproject.toml has them (a test compares)."""

OWN = ("core", "broker", "workers", "ops", "toxmesh")
_COMPARED = (".py", ".so")
_DEBIAN = "/usr/lib/toxmesh"  # where the Debian package has its environment: ops/debian/build
_DEBIAN_SUMS = "var/lib/dpkg/info/toxmesh.md5sums"
_NAMED = 3  # files at most


def _install(machine: Machine, what: str) -> str:
    """Returns the command that installs Python packages where this toxmesh is."""
    if machine.prefix == _DEBIAN:
        return "sudo apt-get install --reinstall toxmesh"
    return f"'{machine.prefix}/bin/python' -m pip install {what}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()  # packaging.python.org: name normalization


def packages(machine: Machine) -> Iterator[Finding]:
    """Looks at each package that a node needs, and at its own."""
    found: dict[str, list[Distribution]] = defaultdict(list)
    for row in distributions(path=list(machine.packages)):
        name = row.metadata["Name"]
        if name:
            found[_normal(name)].append(row)
    for name, least in NEEDED.items():
        yield _package(machine, name, least, found[name])
    if machine.prefix == _DEBIAN:
        yield from _debian(machine)
    elif found["toxmesh"]:
        row = found["toxmesh"][0]
        changed = _changed(row)
        if changed:
            yield fail(
                "packages",
                f"{_list(changed)} of toxmesh {row.version} are not as installed: another package "
                "has put its own there, or they were edited",
                _install(machine, "--force-reinstall --no-deps toxmesh"),
            )


def _debian(machine: Machine) -> Iterator[Finding]:
    """Compares files with the list that dpkg has, for that package has no lists of pip's."""
    bad = []
    for line in (machine.read(_DEBIAN_SUMS) or "").splitlines():
        digest, _, name = line.partition("  ")
        if not name.endswith(_COMPARED):
            continue
        try:
            data = (machine.root / name).read_bytes()
        except OSError:
            bad.append(name)
            continue
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != digest:
            bad.append(name)
    if bad:
        text = f"{_list(bad)} of the Debian package are not as it was packed"
        yield fail("packages", text, "sudo apt-get install --reinstall toxmesh")
    elif machine.read(_DEBIAN_SUMS) is not None:
        yield ok("packages", "all files of the Debian package are as packed")


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _package(
    machine: Machine, name: str, least: str, rows: list[Distribution]
) -> Finding:
    newer = _install(machine, f"'{name}>={least}'")
    if not rows:
        return fail("packages", f"{name} is not installed", newer)
    first = rows[0]  # the one that Python imports
    again = _install(machine, f"--force-reinstall --no-deps '{name}>={least}'")
    if _numbers(first.version) < _numbers(least):
        text = f"{name} {first.version} is older than {least}"
        return fail("packages", text, newer)
    here = Path(str(first.locate_file("")))
    beside = [row for row in rows[1:] if Path(str(row.locate_file(""))) == here]
    if any(row.version != first.version for row in beside):
        versions = ", ".join(row.version for row in rows)
        text = f"{name} was installed over itself in {here}: {versions}"
        return fail("packages", text, f"rm -r '{here}'/{name}*-info && {again}")
    changed = _changed(first)
    if changed:
        return fail(
            "packages",
            f"{_list(changed)} of {name} {first.version} are not as its makers packed them",
            again,
        )
    if len(rows) > 1 and any(row.version != first.version for row in rows):
        other = next(row for row in rows if row.version != first.version)
        return warn(
            "packages",
            f"{name} {first.version} hides {other.version} in {other.locate_file('')}",
            "python3 -m venv toxmesh-env && toxmesh-env/bin/pip install toxmesh",
        )
    listed = "files as packed" if first.files else "without a list of its files"
    return ok("packages", f"{name} {first.version}, {listed}")


def _changed(row: Distribution) -> list[str]:
    """Returns files that are missing, or have other contents than the package's own list says."""
    found = []
    for file in row.files or ():
        if file.suffix not in _COMPARED or file.hash is None or file.hash.mode != "sha256":
            continue
        try:
            data = Path(str(file.locate())).read_bytes()
        except OSError:
            found.append(str(file))
            continue
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        if digest != file.hash.value:
            found.append(str(file))
    return found


def own(machine: Machine) -> Iterator[Finding]:
    """All packages of toxmesh come from one place."""
    places: dict[str, Path] = {}
    for name in OWN:
        spec = importlib.util.find_spec(name)
        for place in (spec.submodule_search_locations or ()) if spec is not None else ():
            places.setdefault(name, Path(place).resolve().parent)
    yield same_place(places)


def same_place(places: dict[str, Path]) -> Finding:
    """Compares where each package of toxmesh was found."""
    home = places.get("toxmesh")
    others = [f"{name} in {place}" for name, place in places.items() if place != home]
    others += [f"{name} nowhere" for name in OWN if name not in places]
    if others:
        return fail(
            "packages",
            f"toxmesh is in {home}, but Python finds {', '.join(others)}",
            "python3 -m venv toxmesh-env && toxmesh-env/bin/pip install toxmesh",
        )
    return ok("packages", f"all of toxmesh is in {home}")


def sodium(machine: Machine) -> Iterator[Finding]:
    """Which way into libsodium the node takes; the other one costs 2.5 times as much."""
    if machine.sodium_is_direct():
        yield ok("crypto", "libsodium is called directly")
    else:
        yield warn(
            "crypto",
            "libsodium is called by way of PyNaCl's public functions, 2.5 times as slow",
            _install(machine, "--force-reinstall 'pynacl>=1.6'"),
        )
