"""One identity that a messenger worker hosts: opened, at work, and closed."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.crypto import PublicKey
from core.identity import EngineOptions
from core.messenger.errors import MessengerError
from core.messenger.events import FriendRequest
from core.module import NodeOptions
from core.savedata.profile import Profile
from toxmesh.identity.bot import MOST_TAKEN, Bot
from toxmesh.identity.gate import open_gate
from toxmesh.identity.host import AnyEvent, Behind, MakeRunner, Runner
from toxmesh.identity.identity import Identity
from toxmesh.identity.mailbox import MailboxError
from toxmesh.identity.profiles import ProfileError, ProfileFile, passphrase_in

_IN_USE = 2  # the exit code of a ProfileError: another process has the profile
_WAIT_S, _SAY_S = 0.25, 5.0
"""How often such a profile is tried again (the process before may be about to close it), and after
how long the log says so."""

log = logging.getLogger("toxmesh.worker")
_readers = ThreadPoolExecutor(2, "profiles")
"""Where profiles are read: the key of an encrypted one takes 0.1 s of a core and 16 MiB."""


class Hosted:
    """One profile: what is asked for, and the identity when it runs."""

    def __init__(
        self,
        path: Path,
        options: NodeOptions,
        is_ours: Callable[[PublicKey], bool],
        runner: MakeRunner,
    ) -> None:
        """Opens it as soon as the loop has time; `is_ours`: whether this shard has such a key."""
        self.path = path
        self._options = options
        self._is_ours = is_ours
        self._make_runner = runner
        self._own: Identity | None = None
        self._ours = True
        self._problem = ""
        loop = asyncio.get_running_loop()
        self._opening = loop.create_task(self._open())
        self._acting: asyncio.Task[None] | None = None

    async def _open(self) -> None:
        try:
            # Read first, for the shard to which it belongs may have it; the others go on meanwhile.
            reading = asyncio.get_running_loop().run_in_executor
            seen, profile = await reading(_readers, ProfileFile.open, self.path, self._passphrase)
            self._ours = self._is_ours(profile.keys.public)
            if not self._ours:
                return
            file, profile = await self._take(seen)
            self._own = await self._start(file, profile)
        except (ProfileError, MailboxError) as error:
            self._problem = str(error)
            log.error("the identity %s is not hosted: %s", self.path.stem, error)
            return
        self._act()

    async def _take(self, seen: ProfileFile) -> tuple[ProfileFile, Profile]:
        """Reads the profile when no other process has it. Raises ProfileError."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            try:
                with ProfileFile.taken(self.path, self._passphrase, seen.key) as taken:
                    return taken
            except ProfileError as error:
                if error.code != _IN_USE:
                    raise
                self._problem = str(error)
                if began + _SAY_S <= loop.time():
                    log.warning("the identity %s waits: %s", self.path.stem, error)
                    began = float("inf")
            await asyncio.sleep(_WAIT_S)

    def _passphrase(self) -> str:
        if not self._options.identity_passphrase:
            raise ProfileError("it is encrypted; set identities.passphrase_file")
        return passphrase_in(self._options.identity_passphrase)

    async def _start(self, file: ProfileFile, profile: Profile) -> Identity:
        options = self._options
        ports = options.identity_ports
        own = Identity(
            profile,
            file,
            bootstrap=options.identity_nodes,
            relays=options.identity_relays,
            udp=bool(ports),
            ports=(ports[0], ports[1]) if ports else (0, 0),
            hosts=options.identity_hosts,
            runner=self._run,
        )
        await own.start()
        self._problem = ""
        return own

    # What it does by itself

    def _run(
        self,
        profile: Profile,
        options: EngineOptions,
        behind: Behind,
        ports: tuple[int, int],
        hosts: tuple[str, ...],
    ) -> Runner:
        """Makes the runner; friend requests are answered here where everybody is taken."""

        def hear(event: AnyEvent, now: float) -> None:
            if isinstance(event, FriendRequest) and "accept" in self._options.identity_acts:
                asyncio.get_running_loop().call_soon(self._accept, event.friend)
            else:
                behind.on_event(event, now)

        heard = replace(behind, on_event=hear)
        return self._make_runner(profile, options, heard, ports, hosts)

    def _accept(self, friend: PublicKey) -> None:
        """Takes somebody who asks as a friend, as long as there are not too many."""
        own = self._own
        if own is None:
            return
        if len(own.friends) >= MOST_TAKEN:
            self._say(f"failed there are {MOST_TAKEN} friends, and no more are taken")
            return
        try:
            own.accept(friend)
        except (MessengerError, ProfileError) as error:
            log.warning("%s takes no friend: %s", self.path.stem, error)

    def _act(self) -> None:
        """Answers messages, or lets programs take them."""
        if self._own is not None:
            loop = asyncio.get_running_loop()
            self._acting = loop.create_task(self._serve(self._own))

    async def _serve(self, own: Identity) -> None:
        if "echo" in self._options.identity_acts:
            await Bot(own, self._say, echo=True, accept=False).serve()
            return
        async with open_gate(own):
            await asyncio.Event().wait()

    def _say(self, line: str) -> None:
        """Logs what failed; the rest a bot says is between it and its friends."""
        if line.startswith("failed"):
            log.warning("%s: %s", self.path.stem, line)

    def follow(self, options: NodeOptions) -> None:
        """Takes other settings: what it does by itself changes now, the rest at the next start."""
        echoed = "echo" in self._options.identity_acts
        self._options = replace(self._options, identity_acts=options.identity_acts)
        if self._acting is not None and echoed != ("echo" in options.identity_acts):
            self._acting.cancel()
            self._acting.add_done_callback(lambda done: self._act())

    async def close(self, *, stays: bool) -> None:
        """Ends it; `stays`: another process goes on with its sessions."""
        own, self._own = self._own, None
        tasks = [task for task in (self._opening, self._acting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if own is not None:
            await own.close(stays=stays)

    # How it is

    def shown(self, refused: Mapping[PublicKey, str]) -> dict[str, Any]:
        """Returns what an operator sees of it; `refused`: why keys are not carried now."""
        own = self._own
        row: dict[str, Any] = {
            "name": self.path.stem,
            "key": None,
            "tox_id": None,
            "state": self._state(),
            "problem": self._problem,
            "connected": False,
            "friends": 0,
            "online": 0,
            "unsent": 0,
            "untaken": 0,
        }
        if own is not None:
            status = own.status()
            row |= {
                "key": own.public_key.hex().upper(),
                "tox_id": status["tox_id"],
                "problem": refused.get(own.public_key, ""),
                "connected": status["connected"],
                "friends": len(status["friends"]),
                "online": sum(friend["path"] != "none" for friend in status["friends"]),
                **status["messages"],
            }
        return row

    def _state(self) -> str:
        if self._own is not None:
            return "running"
        return "failed" if self._opening.done() else "opening"

    @property
    def is_ours(self) -> bool:
        """Whether this shard has it, as far as is known."""
        return self._ours

    def friends(self) -> Iterator[dict[str, Any]]:
        """Yields a row for each friend."""
        own = self._own
        if own is None:
            return
        for row in own.status()["friends"]:
            for name in ("search", "addresses", "session"):
                row.pop(name)
            yield {"identity": self.path.stem, "own_key": own.public_key.hex().upper(), **row}

    def drops(self) -> dict[str, int]:
        """Returns what the messenger of it has refused, by reason."""
        return {} if self._own is None else self._own.drops()

    def counts(self) -> dict[str, int]:
        """Returns what is added up over all identities of the process; cheap."""
        own = self._own
        if own is None:
            return {}
        runner, mailbox, _ = own._running
        messenger = runner.engine.messenger
        friends = messenger.friends()
        unsent, untaken = mailbox.counts()
        return {
            "running": 1,
            "connected": int(own.connected),
            "friends": len(friends),
            "online": sum(messenger.friend(key).connection.value != "none" for key in friends),
            "unsent": unsent,
            "untaken": untaken,
        }
