"""Wrong packets at a whole identity: all are counted, nothing else comes out, nothing grows."""

import pytest

from core.messenger import events
from tests.fuzz import identity


def _check(count: int, seed: int) -> None:
    fired_at, failures = identity.run(count, seed)
    assert not failures, "\n".join(map(str, failures))
    for told in (
        events.ConnectionChanged, events.NameChanged, events.StatusMessageChanged,
        events.StatusChanged, events.Typing, events.Message, events.FileOffer, events.FileChunk,
        events.FileChunkWanted, events.FileControlled, events.FileEnded, events.CustomPacket,
    ):  # fmt: skip
        assert fired_at.told[told], f"no packet came as far as {told.__name__}"
    for reason in (
        "crypto_cookie_box", "crypto_cookie_hash", "crypto_handshake_again", "crypto_data_id",
        "crypto_data_window", "crypto_data_repeated", "messenger_size", "friend_share_relays",
    ):  # fmt: skip
        assert fired_at.engine.drops[reason], f"nothing was refused for {reason}"
    engine = fired_at.engine
    assert len(engine.crypto) <= 1
    assert engine.crypto._memory.used <= 32_768 * 1373
    assert len(engine.messenger.friends()) == 1
    assert len(engine.messenger.transfers(fired_at.friend.real.public)) <= 512
    assert len(engine.friends.relays_to_save(fired_at.friend.real.public)) <= 24
    assert len(engine.drops) < 200


@pytest.mark.parametrize("seed", [1, 2])
def test_an_identity_counts_what_is_wrong_and_goes_on(seed: int) -> None:
    _check(8_000, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 20))
def test_an_identity_outlives_a_million_wrong_packets_of_friends_and_strangers(seed: int) -> None:
    _check(100_000, seed)
