"""The packet reference in docs is what the table says."""

from tests.packets.reference import PAGE, page


def test_the_packet_reference_is_fresh() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.packets.reference"
