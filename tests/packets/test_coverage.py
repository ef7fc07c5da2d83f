"""No packet between identities goes without a vector, fuzzing, shards and simulation."""

import ast
from pathlib import Path

import pytest

from core.net_crypto import session
from core.packets import messenger
from core.wire import Record
from tests.messenger.world import World
from tests.packets.coverage import IN_SESSIONS, PAGE, TRIED, page, vectors_of
from tests.packets.test_table import is_of_the_reference

CHECKOUT = Path(__file__).resolve().parents[2]
CLASSES = [cls for classes in TRIED for cls in classes]


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.packets.coverage"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_reference_made_a_vector_of_it(cls: type[Record]) -> None:
    assert any(is_of_the_reference(vector) for vector in vectors_of(cls))


@pytest.mark.parametrize("name", sorted({name for tried in TRIED.values() for name in tried}))
def test_what_the_page_names_is_a_test(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((CHECKOUT / path).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_whatever_is_taken_inside_a_session_is_declared() -> None:
    """All ids of lossless data are tried: whoever teaches the messenger another one declares it."""
    declared = {cls.kind for cls in IN_SESSIONS} | {*messenger.LOSSLESS_CUSTOM}
    declared -= {messenger.Alive.kind, messenger.ShareRelays.kind}  # friend connections take these
    world = World()
    world.up()
    side = world.alice
    for kind in range(session.FIRST_LOSSLESS, session.LAST_LOSSLESS + 1):
        before = side.drops.copy()
        side.hear(bytes((kind,)) + bytes(0 if kind == messenger.Online.kind else 400))
        refused = side.drops - before
        assert ("messenger_unknown_kind" in refused) == (kind not in declared), kind
