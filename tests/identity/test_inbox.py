"""What waits for a program: bounded, strangers apart from friends."""

import asyncio

from core.crypto import PublicKey
from core.messenger.events import Connection, ConnectionChanged, FriendRequest
from tests.identity.clock import run
from toxmesh.identity.host import AnyEvent
from toxmesh.identity.inbox import MOST_REQUESTS, EventsLost, Inbox


def stranger(number: int) -> PublicKey:
    """Returns the key of the stranger of this number."""
    return PublicKey(number.to_bytes(32, "big"))


def taken(inbox: Inbox) -> list[AnyEvent | EventsLost]:
    """Returns all that waits."""

    async def take() -> list[AnyEvent | EventsLost]:
        return [event async for event in inbox.take()]

    inbox.close()
    return asyncio.run(take())


def test_s29_a_thousand_requests_are_256_the_oldest_and_friends_are_heard_all_the_same() -> None:
    inbox = Inbox()
    for number in range(1000):
        inbox.put(FriendRequest(stranger(number), b"t" * 921))
        inbox.put(FriendRequest(stranger(0), b"and again"))
    friend = ConnectionChanged(stranger(5000), Connection.DIRECT)
    inbox.put(friend)
    *requests, came, lost = taken(inbox)
    assert requests == [FriendRequest(stranger(n), b"t" * 921) for n in range(MOST_REQUESTS)]
    assert came == friend
    assert lost == EventsLost(1000 - MOST_REQUESTS)


def test_who_was_taken_makes_room_and_may_ask_again() -> None:
    async def story() -> None:
        inbox = Inbox()
        events = inbox.take()
        for number in range(MOST_REQUESTS):
            inbox.put(FriendRequest(stranger(number), b"hello"))
        first = await anext(events)
        assert first == FriendRequest(stranger(0), b"hello")
        inbox.give_back(first)  # whoever took it has gone
        inbox.put(FriendRequest(stranger(0), b"again"))
        assert await anext(events) == first
        inbox.put(FriendRequest(stranger(0), b"again"))
        inbox.close()
        rest = [event async for event in events]
        assert len(rest) == MOST_REQUESTS
        assert rest[-1] == FriendRequest(stranger(0), b"again")

    run(story())
