"""Full load for twenty seconds: no process keeps growing, no worker dies."""

import pytest

from tests.bench import soak
from tests.bench.__main__ import arguments


@pytest.mark.process
@pytest.mark.slow
def test_no_process_grows_under_full_load() -> None:
    args = arguments(["soak", "--seconds", "20", "--no-pin", "--workers", "dht=2,onion=2,relay=2"])
    lines: list[str] = []
    verdict = soak.soak(args, lines.append)
    assert verdict.problems() == [], "\n".join(lines)
    assert verdict.answers > 0.9 * verdict.sent


def test_a_verdict_names_what_grew_and_what_died() -> None:
    mib = 1 << 20
    verdict = soak.Verdict(
        base={"broker": 20 * mib, "dht.0": 30 * mib},
        end={"broker": 23 * mib, "dht.0": 34 * mib},
        restarts=1,
        answers=5,
    )
    assert verdict.grown() == ["dht.0 grew from 30.0 to 34.0 MiB"]
    assert verdict.problems()[1:] == ["1 worker restarts"]
    verdict.end = {"dht.0": 30 * mib, "dht.1": 30 * mib}
    assert verdict.grown() == ["dht.1 was not there at the beginning"]
