"""Our node and tox-bootstrapd find each other, and say the same about themselves."""

from collections.abc import Iterator

import pytest

from tests.interop.conftest import MakeNode
from tests.interop.driver import wait_until
from tests.interop.nodes import HOST, Node
from tests.interop.probe import INFO_REQUEST_SIZE, Named, Probe, read_bootstrap_info

pytestmark = [pytest.mark.interop, pytest.mark.process]

_WORKERS = "dht=2,onion=1,relay=0"
_MEET_TIMEOUT_S = 15  # two of the reference need 2 s; a lost first answer costs 5 s or more


@pytest.fixture
def probe() -> Iterator[Probe]:
    made = Probe()
    yield made
    made.close()


def _names(probe: Probe, asked: Node, wanted: Node) -> bool:
    """Tells whether `asked` names `wanted`, where it is."""
    return Named(HOST, wanted.udp_port, wanted.key) in probe.nodes(asked, wanted.key)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("bootstrapd", "ours"),
        ("ours", "bootstrapd"),
        ("ours", "ours"),
        ("bootstrapd", "bootstrapd"),  # shows that the test tests the nodes and not itself
    ],
    ids=lambda kind: str(kind),
)
def test_a_node_that_knows_the_other_makes_both_name_each_other(
    make_node: MakeNode, probe: Probe, first: str, second: str
) -> None:
    known = make_node(first, workers=_WORKERS, tcp=False)
    comer = make_node(second, workers=_WORKERS, tcp=False, bootstrap=(known.bootstrap,))
    wait_until(
        lambda: _names(probe, known, comer) and _names(probe, comer, known),
        "each names the other in its nodes answers",
        _MEET_TIMEOUT_S,
    )


def test_bootstrap_info_is_laid_out_as_the_reference_does(
    make_node: MakeNode, probe: Probe
) -> None:
    text = "bootstrap: a node of the interop tests"
    ours = make_node("ours", workers=_WORKERS, tcp=False, motd=text)
    reference = make_node("bootstrapd", motd=text)
    answers = [probe.bootstrap_info(node) for node in (ours, reference)]
    assert answers[0] is not None
    assert answers[1] is not None
    assert read_bootstrap_info(answers[0])[1] == text
    assert read_bootstrap_info(answers[1])[1] == text
    assert answers[0][5:] == answers[1][5:]  # all but the version, to the closing NUL


@pytest.mark.parametrize("kind", ["ours", "bootstrapd"])
def test_bootstrap_info_is_asked_for_in_exactly_78_bytes(
    make_node: MakeNode, probe: Probe, kind: str
) -> None:
    node = make_node(kind, workers=_WORKERS, tcp=False, motd="hello")
    assert probe.bootstrap_info(node, INFO_REQUEST_SIZE - 1) is None
    assert probe.bootstrap_info(node, INFO_REQUEST_SIZE + 1) is None
    assert probe.bootstrap_info(node) is not None
