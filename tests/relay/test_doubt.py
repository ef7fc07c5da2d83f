"""After the death of a worker: the input in doubt is tried again whatever else goes on."""

from tests.relay.joined import Joined


def test_mail_without_end_does_not_keep_the_streams_in_doubt_waiting() -> None:
    relay = Joined(2)
    alice = relay.confirmed(0)
    bobs = [relay.confirmed(1) for _ in range(3)]
    links = [relay.linked(alice, bob)[1] for bob in bobs]
    for bob in bobs:
        bob.send(b"\x04" + bytes(7) + b"\x07")
    relay.sockets()
    relay.kill(1)
    relay.start(1)
    assert relay.tcp.works[1].snapshot()["in_doubt"] == 3
    for _ in range(20):  # alice never stops talking to them
        for bob, link in zip(bobs, links, strict=True):
            assert bob.connection is not None
            relay.tcp.post_data(bob.connection, bytes((link,)), "full", relay.now)
        relay.sockets()
        relay.work(1)
        for bob in bobs:
            bob.pull()
    assert relay.tcp.works[1].snapshot()["in_doubt"] == 0
    for bob, link in zip(bobs, links, strict=True):
        packets = bob.take()
        assert b"\x05" + bytes(7) + b"\x07" in packets
        assert packets.count(bytes((link,))) > 10
        assert not bob.closed
