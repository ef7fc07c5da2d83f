"""Every drop and refusal of the node: explained, shown by /metrics, made to happen by a test."""

import re

from prometheus_client.parser import text_string_to_metric_families

from tests.web import inventory, samples
from toxmesh.reasons import REASONS, explain
from toxmesh.web.metrics import MAX_REASONS, Metrics

FAMILIES = {"toxmesh_udp_drops", "toxmesh_relay_drops", "toxmesh_operator_refusals"}


def _family(reason: str) -> str:
    """Returns the reason without what may be put into it."""
    return reason.partition(":")[0] + ":*" if ":" in reason else reason


def test_the_inventory_is_not_blind() -> None:
    found = inventory.in_code()
    assert len(found) > 120
    known = {"dht_box", "relay_ended", "relay_closed:*", "http_slow", "told_full:*", "new_key:all"}
    assert known <= found


def test_docs_explain_each_reason_and_no_other() -> None:
    code, docs = inventory.in_code(), inventory.in_docs()
    assert sorted(row for row in code if row not in docs and _family(row) not in docs) == []
    assert sorted(row for row in docs if row not in code) == []


def test_each_reason_has_a_series_of_its_own_and_there_is_room_for_all_of_them() -> None:
    everything = {reason: n for n, reason in enumerate(sorted(inventory.in_code()), 1)}
    for stem in ("unknown_kind", "not_served", "too_short"):
        everything |= {f"{stem}:0x{kind:02x}": kind + 1 for kind in range(0, 256, 3)}
    assert len(everything) <= MAX_REASONS
    report = samples.report()
    report["totals"]["drops"] = everything
    text = Metrics().render(report, samples.beats()).decode()
    shown: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        if family.name in FAMILIES:
            for sample in family.samples:
                assert sample.labels["reason"] not in shown
                shown[sample.labels["reason"]] = sample.value
    assert {reason: shown[reason] for reason in everything} == everything
    assert set(shown) - set(everything) <= {"bug", "relay_bug", "other"}


def test_a_test_makes_each_happen() -> None:
    texts = inventory.test_texts()
    # A test names what it has made happen: "relay_ended", "queue_full:pings", or queue_full__pings.
    missing = [
        reason
        for reason in sorted(inventory.in_code())
        if not re.search(rf'"{(stem := re.escape(reason.removesuffix("*")))}', texts)
        and not re.search(rf"\b{stem.replace(':', '__')}(=|\w)", texts)
    ]
    assert missing == []


def test_operators_are_told_what_each_means_and_what_to_do() -> None:
    assert sorted(REASONS) == sorted(inventory.in_docs())
    for reason in REASONS.values():
        assert reason.todo.endswith(".")
        assert reason.meaning
    assert explain("kernel_full:dht:query") is REASONS["kernel_full:*"]
    assert "without an explanation" in explain("made up").meaning
