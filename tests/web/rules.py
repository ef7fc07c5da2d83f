"""Reads what a monitoring system asks of metrics: names and labels in PromQL expressions."""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
ALERTS = CHECKOUT / "ops/alerts/toxmesh.yml"
DASHBOARD = CHECKOUT / "ops/grafana/toxmesh.json"

_OF_PROMETHEUS = {"job", "instance"}  # labels that a scrape gets
_FUNCTIONS = {
    "abs", "and", "avg", "avg_over_time", "by", "count", "group_left", "histogram_quantile",
    "increase", "max", "min", "on", "or", "rate", "sum", "time", "topk", "unless", "without",
}  # fmt: skip


class Use(NamedTuple):
    """A metric in an expression, and the labels that are asked of it."""

    name: str
    labels: frozenset[str]


def uses(expression: str) -> list[Use]:
    """Returns the metrics of an expression. Raises ValueError for one that is none."""
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    for one, other in ("()", "{}", "[]"):
        if plain.count(one) != plain.count(other):
            raise ValueError(f"{one} without {other} in {expression}")
    grouped = {
        label.strip()
        for names in re.findall(r"\b(?:by|without|on)\s*\(([^)]*)\)", plain)
        for label in names.split(",")
    }
    plain = re.sub(r"\b(?:by|without|on)\s*\([^)]*\)", " ", plain)
    plain = re.sub(r"\[[^\]]*\]", " ", plain)
    found = []
    for name, inner in re.findall(r"([a-zA-Z_][a-zA-Z0-9_]*)\s*(\{[^}]*\})?", plain):
        if name in _FUNCTIONS and not inner:
            continue
        labels = set(re.findall(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)", inner))
        found.append(Use(name, frozenset(labels | grouped)))
    return found


def alerts() -> list[dict[str, Any]]:
    """Returns the alert rules."""
    document = yaml.safe_load(ALERTS.read_text("utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """Returns the dashboard."""
    answer: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return answer


def dashboard_expressions() -> list[str]:
    """Returns every query of the dashboard, as Prometheus gets it."""
    board = dashboard()
    found = [
        target["expr"] for panel in board["panels"] for target in panel.get("targets", ())
    ]
    return [row.replace("$__rate_interval", "1m").replace("$instance", ".*") for row in found]


def expressions() -> list[str]:
    """Returns all expressions."""
    return [rule["expr"] for rule in alerts()] + dashboard_expressions()


def labels_of(series: Any) -> dict[str, set[str]]:
    """Returns the labels of each metric of a scrape (keys: name, labels with their values)."""
    result: dict[str, set[str]] = defaultdict(lambda: set(_OF_PROMETHEUS))
    for name, labels in series:
        result[name] |= {label for label, _ in labels}
    return dict(result)


def unknown(series: Any) -> list[str]:
    """Returns what the expressions use and a scrape does not have."""
    known = labels_of(series)
    known["up"] = set(_OF_PROMETHEUS)
    found = []
    for expression in expressions():
        for use in uses(expression):
            if use.name not in known:
                found.append(f"{use.name} in {expression}")
            elif not use.labels <= known[use.name]:
                found.append(f"{sorted(use.labels - known[use.name])} of {use.name}: {expression}")
    return found
