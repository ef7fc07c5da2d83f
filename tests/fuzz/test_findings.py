"""What the fuzzers keep of what they find."""

import pytest

from tests.fuzz.findings import Findings


def test_an_error_of_any_type_is_kept_with_its_packet() -> None:
    findings = Findings(7, 2)
    with findings.of("ping", b"\x00"):
        pass
    assert findings.failures == []
    with findings.of("ping", b"\x01"):
        findings.now_with(b"\x02")
        raise ZeroDivisionError("nothing is shared among nobody")
    (failure,) = findings.failures
    assert (failure.seed, failure.packet, failure.data) == ("7", "ping", b"\x02")
    assert "ZeroDivisionError: nothing is shared" in str(failure)
    assert not findings.full
    findings.add("it was answered")
    assert findings.full


def test_who_ends_the_program_ends_the_fuzzer() -> None:
    findings = Findings(7)
    with pytest.raises(KeyboardInterrupt), findings.of("ping", b""):
        raise KeyboardInterrupt
    assert findings.failures == []
