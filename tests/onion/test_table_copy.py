"""A dht.0 that was killed gets the last copy of its own table back from onion shards too."""

from core.endpoint import from_text
from core.messages import NodeRow, TableFull, TableWanted
from tests.onion.node import START, Node

ROW = NodeRow(bytes(range(32)), from_text("192.0.2.1", 33445), b"", False, True)


def test_an_onion_shard_hands_its_copy_of_the_table_back() -> None:
    node = Node("node", from_text("192.0.2.9", 33445), known=[ROW])
    node.shards[0].handle_message(TableWanted("dht", 0), START)
    assert node.boxes[0].told == [("dht", 0, TableFull(1, node.keys.public, (ROW,)))]


def test_an_onion_shard_without_a_table_is_silent_when_asked_for_it() -> None:
    node = Node("node", from_text("192.0.2.9", 33445))
    node.shards[0].nodes.version = None
    node.shards[0].nodes.rows.clear()
    node.shards[0].handle_message(TableWanted("dht", 0), START)
    assert not node.boxes[0].told
