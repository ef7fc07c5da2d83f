"""What the two processes of identities refuse, tell and show, without processes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core.asking import CannotAnswer
from core.crypto import KeyPair, SecretKey
from core.endpoint import from_text
from core.entropy import SeededEntropy
from core.identity import EngineOptions, messages
from core.identity.rows import nodes_row, options_row
from core.messages import Candidate, NodeRow, TableChange, TableFull, TableWanted
from core.module import Collected, Context, NodeOptions, ProtocolViolation
from core.packets.nodes import NodeInfo
from core.slots import SlotTable
from tests.processes.hosted import make_profile
from tests.web import samples
from toxmesh.hosting import tracing
from toxmesh.hosting.messenger import MessengerWorker
from toxmesh.hosting.net_crypto import NetCryptoWorker
from toxmesh.web.metrics import Metrics

SOURCE = from_text("127.0.0.1", 33445)
IDENTITY, LINK, FRIEND, SERIAL = b"\x01" * 32, b"\x02" * 8, b"\x03" * 32, b"\x04" * 8


class Desk:
    """A host that counts its stirs; one process of each role is up."""

    def __init__(self) -> None:
        self.generations = {"messenger": 7, "net_crypto": 8}
        self.stirs = 0

    def generation(self, role: str, shard: int) -> int | None:
        return self.generations.get(role)

    def stir(self) -> None:
        self.stirs += 1


def context(out: Collected) -> Context:
    entropy = SeededEntropy("hosting")
    slots = {role: SlotTable.even(1) for role in ("messenger", "net_crypto")}
    return Context(KeyPair.generate(entropy), SecretKey(bytes(32)), entropy, out, slots=slots)


async def _net_crypto() -> tuple[NetCryptoWorker, Collected, Context]:
    out = Collected()
    made = context(out)
    return NetCryptoWorker(made, Desk()), out, made


def test_what_nobody_should_say_to_these_processes_is_refused() -> None:
    async def story() -> None:
        worker, out, _ = await _net_crypto()
        with pytest.raises(ProtocolViolation, match="net_crypto_datagram"):
            worker.handle_packet(b"\x1b", SOURCE, 0.0)
        with pytest.raises(ProtocolViolation, match="net_crypto_message"):
            worker.handle_message(Candidate(b"", b""), 0.0)
        early = messages.Detach(IDENTITY, LINK, 1)
        with pytest.raises(ProtocolViolation, match="net_crypto_message"):
            worker.handle_message(early, 0.0)  # before the memory of the process before is ours
        worker.handle_topology(0.0)
        worker.handle_message(early, 0.0)
        assert out.drops == {"identity_old_link": 1}
        other = MessengerWorker(context(Collected()), Desk())
        with pytest.raises(ProtocolViolation, match="messenger_datagram"):
            other.handle_packet(b"\x1b", SOURCE, 0.0)

    asyncio.run(story())


def test_identities_begin_with_nodes_of_the_nodes_own_table() -> None:
    async def story() -> None:
        worker, out, made = await _net_crypto()
        worker.handle_topology(0.0)
        assert out.told == [("dht", 0, TableWanted("net_crypto", 0))]
        own = made.keys.public
        rows = tuple(NodeRow(bytes([n]) * 32, SOURCE, b"", False, True) for n in range(1, 4))
        worker.handle_message(TableFull(5, own, rows[:2]), 0.0)
        worker.handle_message(TableChange(6, own, rows[2:], (rows[0].key,)), 0.0)
        assert {row.key for row in worker.table.closest(bytes(32), 9)} == {
            row.key for row in rows[1:]
        }
        worker.handle_message(TableChange(9, own, (), ()), 2.0)  # two were missed
        assert out.told[1:] == [("dht", 0, TableWanted("net_crypto", 0))]
        worker.handle_message(TableWanted("dht", 0), 2.0)  # a dht.0 that begins anew
        role, shard, full = out.told[-1]
        assert (role, shard) == ("dht", 0)
        assert isinstance(full, TableFull)
        assert len(full.rows) == 2

    asyncio.run(story())


def test_nodes_that_were_told_on_a_link_that_is_over_are_there_with_the_next_one() -> None:
    async def story() -> None:
        worker, _, _ = await _net_crypto()
        worker.handle_topology(0.0)
        keys = KeyPair.generate(SeededEntropy("identity"))
        relay = NodeInfo(KeyPair.generate(SeededEntropy("relay")).public, SOURCE, True)
        options = options_row(EngineOptions(udp=False))
        for link, nodes in ((b"1" * 8, []), (b"2" * 8, [relay])):
            attach = messages.Attach(
                keys.public, link, 0, keys.secret.reveal(), options, (0, 0), (),
                nodes_row(nodes), (), (),
            )  # fmt: skip
            worker.handle_message(attach, 0.0)
            worker.handle_message(messages.FriendsTold(keys.public, link, 1, (), True), 0.0)
        row = worker.ask("carriers", {}, 0.0)[keys.public.hex().upper()]
        assert [each["key"] for each in row["relays"]] == [relay.key.hex().upper()]
        worker.handle_stop(False, 0.0)

    asyncio.run(story())


def test_questions_about_what_there_is_not_are_refused() -> None:
    async def story() -> None:
        worker, _, _ = await _net_crypto()
        worker.handle_topology(0.0)
        assert worker.ask("carriers", {}, 0.0) == {}
        assert worker.ask("sessions", {}, 0.0) == []
        assert worker.ask("session close", {"key": FRIEND.hex()}, 0.0) == []
        other = MessengerWorker(context(Collected()), Desk())
        other.handle_topology(0.0)
        assert other.ask("identities", {}, 0.0) == []
        assert other.ask("friends", {}, 0.0) == []
        for module in (worker, other):
            with pytest.raises(CannotAnswer, match="is nothing that a"):
                module.ask("odd", {}, 0.0)

    asyncio.run(story())


HEAD = (IDENTITY, LINK, 0, FRIEND, SERIAL)
STEPS: list[tuple[Any, dict[str, Any]]] = [
    (messages.SessionDirect(*HEAD, True), {"what": "path", "direct": True}),
    (messages.SessionDown(*HEAD), {"what": "down"}),
    (
        messages.Came(*HEAD, 9, (b"@secret", b"@more")),
        {"what": "came", "packets": 2, "bytes": 12, "number": 9},
    ),
    (messages.Stored(*HEAD, 9), {"what": "stored", "number": 9}),
    (
        messages.Handed(*HEAD, 4, ((0, b"@secret"), (7, b"@x"))),
        {"what": "handed", "packets": 2, "bytes": 9, "number": 5},
    ),
    (
        messages.Advanced(*HEAD, (5, 7), (4, 0), 99),
        {"what": "advanced", "taken": 5, "acked": 4},
    ),
    (messages.LossyCame(*HEAD, b"\xc8abc"), {"what": "lossy came", "packets": 1, "bytes": 4}),
    (messages.LossyHanded(*HEAD, b"\xc8abc"), {"what": "lossy handed", "packets": 1, "bytes": 4}),
]


@pytest.mark.parametrize(("message", "data"), STEPS, ids=lambda row: type(row).__name__)
def test_a_step_of_a_session_is_told_without_what_was_said(
    message: Any, data: dict[str, Any]
) -> None:
    assert tracing.step(message) == {
        "identity": IDENTITY.hex().upper(), "key": FRIEND.hex().upper(), **data,
    }  # fmt: skip
    assert "secret" not in str(tracing.step(message))


def test_steps_are_made_only_while_somebody_follows() -> None:
    async def story() -> None:
        worker, _, made = await _net_crypto()
        worker.handle_topology(0.0)
        stored = messages.Stored(*HEAD, 9)
        worker.handle_message(stored, 0.0)
        assert not made.events
        made.events.follow(["session"])
        worker.handle_message(stored, 0.0)
        worker.handle_message(messages.Detach(IDENTITY, LINK, 1), 0.0)  # about no session
        ((name, data),), lost = made.events.take()
        assert (name, data["what"], lost) == ("session", "stored", 0)

    asyncio.run(story())


def test_who_accepts_everybody_takes_no_more_than_a_thousand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_profile(tmp_path, "bot")
    monkeypatch.setattr("toxmesh.hosting.hosted.MOST_TAKEN", 2)

    async def story() -> None:
        out = Collected()
        options = NodeOptions(
            identities=(str(tmp_path / "bot.tox"),), identity_acts=("accept",)
        )
        made = context(out)
        made.options = options
        worker = MessengerWorker(made, Desk())
        worker.handle_topology(0.0)
        (hosted,) = worker._hosted or []
        await asyncio.wait_for(hosted._opening, 10)
        for number in range(3):
            hosted._accept(KeyPair.generate(SeededEntropy(f"friend {number}")).public)
        (row,) = worker.ask("identities", {}, 0.0)
        assert (row["name"], row["state"], row["friends"]) == ("bot", "running", 2)
        assert "there are 2 friends, and no more are taken" in caplog.text
        worker.handle_stop(True, 0.0)
        while not worker.finished():
            await asyncio.sleep(0)

    asyncio.run(story())


def test_an_identity_of_another_shard_is_left_to_it(tmp_path: Path) -> None:
    owner = SlotTable.even(2).shard_of(make_profile(tmp_path, "bot").keys.public)

    async def story() -> None:
        out = Collected()
        options = NodeOptions(identities=(str(tmp_path / "bot.tox"),))
        workers = []
        for shard in (owner, 1 - owner):
            made = context(out)
            made.slots["messenger"] = SlotTable.even(2)
            made.shard, made.options = shard, options
            worker = MessengerWorker(made, Desk())
            workers.append(worker)
            worker.handle_topology(0.0)
            (hosted,) = worker._hosted or []
            await asyncio.wait_for(hosted._opening, 10)
        names = [row["name"] for worker in workers for row in worker.ask("identities", {}, 0.0)]
        assert names == ["bot"]
        for worker in workers:
            worker.handle_stop(True, 0.0)
        while not all(worker.finished() for worker in workers):
            await asyncio.sleep(0)

    asyncio.run(story())


def test_metrics_of_identities_are_there_where_some_are_hosted() -> None:
    plain = Metrics().render(samples.report(), {}).decode()
    assert "toxmesh_identities" not in plain
    text = Metrics().render(samples.hosting(), {}).decode()
    for line in (
        "toxmesh_identities 6",
        "toxmesh_identities_connected 4",
        "toxmesh_identities_friends 18",
        "toxmesh_identities_online 8",
        'toxmesh_identities_messages{state="unsent"} 10',
        'toxmesh_identities_messages{state="untaken"} 12',
        'toxmesh_identities_sessions{path="udp"} 3',
        'toxmesh_identities_sessions{path="relay"} 1',
    ):
        assert f"{line}\n" in text
