"""How many relays an identity keeps connected though nobody needs them: the program says so."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from core.crypto import KeyPair
from core.entropy import SeededEntropy
from tests.identity.clock import run
from toxmesh.identity.identity import Identity

LOCAL = ("127.0.0.1",)


@pytest.mark.parametrize("wanted", [0, 1, 3])
def test_so_many_relays_are_dialed_as_the_program_wants(wanted: int) -> None:
    dialed: set[int] = set()

    async def story() -> None:
        async with AsyncExitStack() as stack:
            relays = []
            for number in range(5):

                async def answer(
                    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, at: int = number
                ) -> None:
                    dialed.add(at)
                    await reader.read(-1)  # and it says nothing
                    writer.close()

                server = await asyncio.start_server(answer, "127.0.0.1", 0)
                await stack.enter_async_context(server)
                port = server.sockets[0].getsockname()[1]
                key = KeyPair.generate(SeededEntropy(f"relay {number}")).public
                relays.append(f"127.0.0.1:{port}:{key.hex()}")
            own = Identity.create(
                "Bot", bootstrap=[], relays=relays, ports=(0, 0), hosts=LOCAL,
                standing_relays=wanted,
            )  # fmt: skip
            async with own:
                await asyncio.sleep(3)  # a greeting may take 10 s: nobody is given up yet

    run(story())
    assert len(dialed) == wanted
