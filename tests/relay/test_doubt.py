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


def test_a_hello_waits_for_a_worker_that_is_away_but_not_for_its_client() -> None:
    relay = Joined()
    relay.kill(0)
    whole, half = relay.connect(), relay.connect()
    whole.socket.sendall(whole.client.hello())
    half.socket.sendall(half.client.hello()[:100])
    relay.sockets()
    relay.now += 10.5
    relay.tcp.handle_timer(relay.now)
    relay.run()
    assert half.closed
    assert not whole.closed
    relay.start(0)
    relay.run()
    assert whole.client.ready
    relay.wait(11)
    assert whole.closed
    assert relay.hooks.drops["relay_confirm_late"] == 1


def test_a_client_has_its_time_for_a_pong_after_a_worker_that_hung() -> None:
    relay = Joined()
    bob = relay.confirmed()
    relay.now += 29.0
    relay.hooks.sent[0].extend([b""] * 4)  # the worker hangs: what it is given stays there
    relay.now += 1.5
    relay.tcp.handle_timer(relay.now)  # a ping is due, and lies in the inbox
    assert bob.connection is not None
    assert bob.connection.ping_id is not None
    relay.now += 9.9  # the supervisor ends it; the successor begins
    relay.kill(0)
    relay.start(0)
    relay.now += 0.2  # the pong is overdue, but the ping has just reached the client
    relay.tcp.handle_timer(relay.now)
    relay.run()
    assert not bob.closed
    (ping,) = bob.take()
    assert ping[0] == 4
    bob.send(b"\x05" + ping[1:])
    relay.run()
    relay.wait(11)
    assert not bob.closed
    relay.wait(60)  # and who does not answer is closed as ever
    assert bob.closed
    assert relay.hooks.drops["relay_pong_late"] == 1
