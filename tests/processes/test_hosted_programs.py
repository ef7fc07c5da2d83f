"""Programs use identities that a node hosts, while its processes are killed or replaced."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from core.messenger.events import FriendRequest
from ops import client
from tests.identity.test_identity import Diary, Neighbours, node
from tests.processes.hosted import SERVING, make_profile, settings
from tests.processes.node import Node, running
from toxmesh.identity.hosted import HostedIdentity, HostGone
from toxmesh.identity.inbox import StoredMessage

pytestmark = pytest.mark.process

COUNT = 200  # messages, each of which is answered
BACK_S = 10.0  # after a process was replaced, until all is answered again


async def answer(program: HostedIdentity) -> None:
    """A bot outside of the node."""
    async for event in program.events():
        try:
            match event:
                case FriendRequest():
                    await program.accept(event.friend)
                case StoredMessage():
                    await program.send(event.friend, f"re {event.text}", answers=event)
        except HostGone:
            pass  # if it was not done, the event comes again


async def answered(hers: Diary, count: int, seconds: float) -> None:
    """Waits until so many answers have come."""
    end = time.monotonic() + seconds
    while len(hers.texts()) < count:
        assert time.monotonic() < end, f"{len(hers.texts())} of {count} within {seconds} s"
        await asyncio.sleep(0.02)


async def kill(host: Node, name: str) -> None:
    """Kills a process of the node, which begins it again."""
    row = await asyncio.to_thread(host.child, name)
    os.kill(row["pid"], signal.SIGKILL)


async def replace(host: Node, name: str) -> None:
    """Replaces a process of the node in order."""
    args = {"name": name}
    await asyncio.to_thread(client.ask, host.state_dir, "worker restart", args, timeout_s=60)


async def upgrade(host: Node, name: str) -> None:
    """Replaces all processes of the node, as for another version."""
    await asyncio.to_thread(client.ask, host.state_dir, "upgrade", {}, timeout_s=120)


@pytest.mark.parametrize(
    ("disturb", "names"),
    [
        (kill, ("messenger.0", "net_crypto.0", "messenger.0", "net_crypto.0", "messenger.0")),
        pytest.param(replace, ("messenger.0", "net_crypto.0"), marks=pytest.mark.slow),
        pytest.param(upgrade, ("all",), marks=pytest.mark.slow),
    ],
)
def test_a_program_answers_each_message_once_whatever_becomes_of_its_hosts_processes(
    tmp_path: Path, disturb: Callable[[Node, str], Awaitable[None]], names: tuple[str, ...]
) -> None:
    folder = tmp_path / "identities"
    make_profile(folder, "bot")
    at = {20 + 40 * place: name for place, name in enumerate(names)}

    async def story() -> None:
        async with AsyncExitStack() as stack:
            town = await stack.enter_async_context(Neighbours())
            words = settings(tmp_path / "node.toml", folder)
            known = ("--bootstrap", node(town._made[0]), "--tcp-port", "0")
            runs = running(tmp_path, *words, *known, workers=SERVING)
            host = await asyncio.to_thread(runs.__enter__)
            stack.push_async_callback(asyncio.to_thread, runs.__exit__, None, None, None)
            program = HostedIdentity(folder / "bot.tox")
            await program.start()
            bot = asyncio.create_task(answer(program))
            alice = await stack.enter_async_context(town.identity("Alice"))
            hers = Diary(alice)
            await asyncio.wait_for(alice.wait_connected(), 60)
            await asyncio.wait_for(program.wait_connected(), 60)
            alice.add_friend(program.tox_id, "please")
            await asyncio.wait_for(alice.wait_online(program.public_key), 120)
            for number in range(COUNT):
                alice.send(program.public_key, f"{number}")
                if number in at:
                    await answered(hers, number // 2, 60)  # the others are on their way
                    await disturb(host, at[number])
                    await answered(hers, number + 1, BACK_S)
            await answered(hers, COUNT, 60)
            await asyncio.sleep(2)  # for what comes twice
            assert hers.texts() == [f"re {number}" for number in range(COUNT)]
            await program.close()
            await asyncio.gather(bot, return_exceptions=True)

    asyncio.run(story())
