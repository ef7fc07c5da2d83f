"""The dashboard and the alert rules: they are what their readers take, and use what there is."""

import re

import pytest

from tests.web import rules, samples
from tests.web.inventory import CHECKOUT, in_code
from tests.web.test_metrics import parse
from toxmesh.web.metrics import Metrics

_DURATION = re.compile(r"\d+(s|m|h)")


def scraped() -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return set(parse(Metrics().render(samples.report(), samples.beats())))


def test_expressions_are_read() -> None:
    assert rules.uses('sum by (a) (rate(x_total{b="c{d}"}[5m])) / y > 0.1') == [
        rules.Use("x_total", frozenset({"a", "b"})),
        rules.Use("y", frozenset({"a"})),
    ]
    with pytest.raises(ValueError, match="without"):
        rules.uses("sum(x")


def test_alert_rules_have_all_that_a_rule_needs() -> None:
    found = rules.alerts()
    assert len({rule["alert"] for rule in found}) == len(found) >= 10
    for rule in found:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert _DURATION.fullmatch(rule.get("for", "0s"))
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        for text in rule["annotations"].values():
            assert text.count("{{") == text.count("}}")


def test_every_query_asks_for_metrics_and_labels_that_there_are() -> None:
    assert len(rules.expressions()) > 40
    assert rules.unknown(scraped()) == []


def test_reasons_that_rules_name_are_counted_somewhere() -> None:
    stems = {reason.rstrip("*").rstrip(":") for reason in in_code()}
    for expression in rules.expressions():
        for pattern in re.findall(r'reason(?:=~|=)"([^"]*)"', expression):
            for branch in _branches(pattern):
                assert any(re.fullmatch(branch, stem) for stem in stems), branch


def _branches(pattern: str) -> list[str]:
    """Returns what a pattern allows, one by one: `a_(b|c)|d.*` is a_b, a_c, d.*."""
    inner = re.fullmatch(r"(\w*)\(([^)]*)\)", pattern)
    if inner is not None:
        return [inner[1] + part for part in inner[2].split("|")]
    return pattern.split("|")


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    shown = {use.name for row in rules.dashboard_expressions() for use in rules.uses(row)}
    board = rules.dashboard()
    assert {variable["name"] for variable in board["templating"]["list"]} == {
        "datasource",
        "instance",
    }
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert len(shown) > 20
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24


def test_docs_name_every_family_and_no_other() -> None:
    text = (CHECKOUT / "docs/metrics.md").read_text("utf-8")
    table = text.partition("\n## Names\n")[2].partition("\n## Reasons\n")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", table, re.M))
    scrape = Metrics().render(samples.hosting(), samples.beats()).decode()
    exposed = dict(re.findall(r"^# TYPE toxmesh_(\w+) (\w+)$", scrape, re.M))
    assert documented == exposed
