"""Every reason under which something is dropped or refused, in the code and in the docs."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("broker", "workers", "core", "toxmesh")
_NAMED = re.compile(
    r"(onion|announce|data|group|forward|target|relay|dht|weak|http|control|service|crypto)_[a-z_]+"
)
NO_REASONS = {  # texts that look like one
    "announce_entries",
    "announce_rows",
    "control_group",
    "data_announce",
    "data_entries",
    "data_hash",
    "data_key",
    "data_store",
    "dht_key",
    "group_chats",
    "relay_connections",
}


def _files() -> Iterator[Path]:
    for package in PACKAGES:
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            if "bench" not in path.parts:
                yield path


def _pattern(node: ast.expr) -> str:
    """Returns a reason as docs write it: what is put into it stands as `*`."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "*" for part in node.values]
        return re.sub(r"(:\*)+$", ":*", "".join(str(part) for part in parts))
    return ""


def _is_drops(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return str(name).endswith("drops")


@cache
def in_code() -> frozenset[str]:
    """Returns the reasons of the code; of those with a value in them, the part before it.

    Found are: what `drops[...]` is indexed with, what ProtocolViolation is raised with, and every
    text that is named like a reason and neither a key of a dict nor what one is asked for.
    """
    found = {"kernel_full:*", "unknown_kind:*", "not_served:*", "too_short:*"}
    for path in _files():
        tree = ast.parse(path.read_text("utf-8"))
        others: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                others |= {id(key) for key in node.keys if key is not None}
            elif isinstance(node, ast.Subscript) and not _is_drops(node.value):
                others |= {id(part) for part in ast.walk(node.slice)}
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in _ASKING:
                others |= {id(part) for part in node.args}
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript) and _is_drops(node.value):
                found.add(_pattern(node.slice))
            elif (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", "") == "ProtocolViolation"
                and node.args
                and "_" in _pattern(node.args[0])
                and " " not in _pattern(node.args[0])
            ):
                found.add(_pattern(node.args[0]))
            elif isinstance(node, ast.JoinedStr) and _NAMED.match(_pattern(node)):
                found |= {_pattern(node)} if re.fullmatch(r"[a-z_]+:\*", _pattern(node)) else set()
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in others
                and _NAMED.fullmatch(node.value)
                and path.relative_to(CHECKOUT).as_posix() not in _NO_REASONS_IN
            ):
                found.add(node.value)
    short = {re.sub(r"(:\*)+\Z", ":*", row) for row in found}  # kernel_full has two values
    return frozenset(short - NO_REASONS - {""})


_ASKING = {"get", "getattr", "_optional"}
_NO_REASONS_IN = {  # names of settings, requests, columns and groups
    "toxmesh/web/metrics.py",
    "toxmesh/limits.py",
    "toxmesh/migrate.py",
    "broker/bounds.py",
    "toxmesh/reload.py",
    "toxmesh/settings_file.py",
}


@cache
def in_docs() -> frozenset[str]:
    """Returns the reasons that docs/metrics.md explains; what stands in capitals as `*`."""
    text = (CHECKOUT / "docs/metrics.md").read_text("utf-8").partition("\n## Reasons\n")[2]
    rows = re.findall(r"^\| `([^`]+)` \| [^|]*\|$", text, re.M)
    found = [re.sub(r":[A-Z].*", ":*", row) for row in rows]
    families = {"udp_drops_total", "relay_drops_total", "operator_refusals_total"}
    return frozenset(found) - families


@cache
def test_texts() -> str:
    """Returns all tests but those of the inventory itself."""
    paths = [
        path
        for path in sorted((CHECKOUT / "tests").rglob("*.py"))
        if path.name not in ("inventory.py", "test_reasons.py")
    ]
    return "\n".join(path.read_text("utf-8") for path in paths)
