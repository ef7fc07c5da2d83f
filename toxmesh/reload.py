"""Reads the settings of a running node again, and applies what differs where it can be applied.

Nothing is touched before the whole of the new settings is known to be good. `WAYS` says of each
setting how a change gets into the running node; what needs a restart is kept as it was, and named
by `status` until then.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from core.asking import BUSY, REFUSED, USAGE, CannotAnswer
from core.link import logs
from toxmesh.children import State
from toxmesh.control import Later, Refused
from toxmesh.door_group import group_problem
from toxmesh.logbook import SUPERVISOR
from toxmesh.settings import PORT_RANGE, Identities, Settings
from toxmesh.web.address import parse as parse_http

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

LIVE, REPLACE, RESTART = "live", "replace", "restart"
"""How a change is applied: at once, by replacing (adding, removing) processes, or not before the
node is started again."""

_ANSWER_S = 600.0  # some settings need processes to be replaced, one after the other
_FIRST_FREE = f"the first free port of {PORT_RANGE[0]}-{PORT_RANGE[-1]}"

log = logging.getLogger("toxmesh.supervisor")

Reread = Callable[[], Settings]
"""Makes the settings anew of file, environment and command line; raises SettingsError."""


class Way(NamedTuple):
    """How a change of one setting gets into the running node."""

    how: str  # LIVE, REPLACE or RESTART
    text: str  # what is done, as people read it


_SOCKETS = Way(RESTART, "the node's sockets are bound once")
_BROKER = Way(LIVE, "the broker follows at once")
_STAYS = Way(RESTART, "identities are opened once")
_WORKERS = Way(REPLACE, "processes are added or removed")

WAYS: Mapping[str, Way] = {
    "state_dir": Way(RESTART, "keys and the control door stand there"),
    "listen": _SOCKETS,
    "udp_port": _SOCKETS,
    "tcp_ports": _SOCKETS,
    "bootstrap": Way(LIVE, "dht.0 gets the nodes; it keeps those that it knows"),
    "lan_discovery": Way(REPLACE, "dht.0 is replaced"),
    "motd": _BROKER,
    "services_off": Way(LIVE, "all processes follow; who is connected to the relay is closed"),
    "relay_connections": Way(LIVE, "the broker follows at once; nobody is closed"),
    "relay_per_address": Way(LIVE, "the broker follows at once; nobody is closed"),
    "relay_per_prefix": Way(LIVE, "the broker follows at once; nobody is closed"),
    "workers.dht": _WORKERS,
    "workers.onion": _WORKERS,
    "workers.relay": _WORKERS,
    "workers.net_crypto": _STAYS,
    "workers.messenger": _STAYS,
    "identities.directory": _STAYS,
    "identities.profiles": _STAYS,
    "identities.accept": Way(LIVE, "the messenger processes follow at once"),
    "identities.echo": Way(LIVE, "the messenger processes follow at once"),
    "identities.udp_ports": _STAYS,
    "identities.passphrase_file": _STAYS,
    "dispatch": _SOCKETS,
    "brokers": _SOCKETS,
    "http": Way(LIVE, "the web door is opened there; who was connected is not any more"),
    "remote": Way(LIVE, "the remote door is opened there; who was connected asks again"),
    "remote_operators": Way(LIVE, "the remote door is opened anew; who was connected asks again"),
    "control_group": Way(LIVE, "the control door gets that group"),
    "dev": Way(RESTART, "it is a flag of the command line"),
    "log_level": Way(LIVE, "all processes follow"),
    "log_format": Way(LIVE, "all processes follow"),
    "log_redact": Way(LIVE, "all processes follow"),
}
"""By name as in `flat`; a test compares it with the settings."""

_LOG = frozenset({"log_format", "log_redact"})
_RELAY = frozenset({"relay_connections", "relay_per_address", "relay_per_prefix"})
_CHILDREN = _LOG | _RELAY | {"motd", "services_off", "identities.accept", "identities.echo"}


def flat(settings: Settings) -> dict[str, Any]:
    """Returns all settings by name; those of tables with the table's name before a dot."""
    result: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, Identities):
            value = asdict(value)
        if isinstance(value, Mapping):
            result.update({f"{field.name}.{name}": value[name] for name in sorted(value)})
        else:
            result[field.name] = value
    return result


def shown(value: object) -> str:
    """Returns a setting's value as people write it."""
    if value is None:
        return _FIRST_FREE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(str(row) for row in value) or "none"
    return str(value) if value != "" else "none"


def tell_children(node: "Supervisor") -> None:
    """Tells all processes the settings that they follow while they run (`core.link.changes`)."""
    for row in node.children + node.swaps.extra:
        if row.alive:
            body = {
                "log_format": node.settings.log_format,
                "log_redact": node.settings.log_redact,
                "options": asdict(node.options(row)),
            }
            node.tell(row, "settings", body)


def when_heard(node: "Supervisor", answer: Callable[[], Any]) -> Later:
    """Returns an answer that is made when all processes have followed what they were told.

    One that hangs is waited for no longer than for any question: it follows when it goes on, or its
    successor begins with what is so now.
    """
    later = Later()
    try:
        node.asker.ask("*", "heard").then(lambda heard: later.resolve(answer()))
    except CannotAnswer:  # nobody is up, or too many ask: those that come begin with it
        later.resolve(answer())
    return later


class Change(NamedTuple):
    """One setting that differs."""

    setting: str
    old: Any
    new: Any
    how: str
    text: str

    def row(self, done: bool) -> dict[str, Any]:
        """Returns it as the door answers it."""
        return {
            "setting": self.setting,
            "old": shown(self.old),
            "new": shown(self.new),
            "how": self.how,
            "text": self.text,
            "done": done,
        }


def differences(old: Settings, new: Settings) -> list[Change]:
    """Returns what differs, in the order of the table."""
    before, after = flat(old), flat(new)
    return [
        Change(name, before.get(name, 0), after.get(name, 0), *way)
        for name, way in WAYS.items()
        if before.get(name, 0) != after.get(name, 0)
    ]


def with_value(settings: Settings, name: str, value: Any) -> Settings:
    """Returns settings in which one (named as in `flat`) has another value."""
    table, dot, part = name.partition(".")
    if dot:
        known = getattr(settings, table)
        if isinstance(known, Identities):
            value = replace(known, **{part: value})
        else:
            value = MappingProxyType({**known, part: value})
    return replace(settings, **{table: value})


class Reloads:
    """Reloads of one node, one at a time."""

    def __init__(self, node: "Supervisor", reread: Reread | None) -> None:
        self._node = node
        self._reread = reread
        self._asked = False  # by a signal
        self._busy = False
        self.pending: list[Change] = []
        """What the settings say and the node does not follow before it is started again."""
        self.good = self.bad = 0
        """How many there were."""

    def ask(self) -> None:
        """Asks for a reload as soon as it can be done: SIGHUP."""
        self._asked = True

    def turn(self) -> None:
        """Does what a signal has asked for."""
        node = self._node
        if not self._asked or self._busy or not node.listening or node.swaps.busy:
            return
        self._asked = False
        try:
            self.reload()
        except CannotAnswer as refusal:
            log.error("the settings were not read again: %s", refusal.text)

    def find_pending(self) -> None:
        """Looks what is pending, where another process image may have known it."""
        with suppress(CannotAnswer):
            self.pending = [row for row in self._plan(self.read()) if row.how == RESTART]

    def report(self) -> list[dict[str, str]]:
        """Returns what is pending, for `status`."""
        return [
            {"setting": row.setting, "now": shown(row.old), "then": shown(row.new)}
            for row in self.pending
        ]

    def read(self) -> Settings:
        """Returns the settings as they are written now; refuses with every mistake in them."""
        if self._reread is None:
            raise Refused(REFUSED, "this node was started without settings that can be read again")
        from toxmesh.settings_file import SettingsError

        try:
            return self._reread()
        except SettingsError as error:
            lines = "; ".join(str(problem) for problem in error.problems)
            raise Refused(USAGE, f"nothing was changed: {lines}") from None

    def preview(self) -> dict[str, Any]:
        """Returns what a reload would change."""
        changes = self._plan(self.read())
        return self._answer(changes, dry_run=True, done=set())

    def _plan(self, wanted: Settings) -> list[Change]:
        """Returns what differs; what cannot be done now although its way would allow it, waits."""
        changes = differences(self._node.settings, wanted)
        for place, row in enumerate(changes):
            table, _, role = row.setting.partition(".")
            why = self._node.swaps.sizes.why_not(role, row.new) if table == "workers" else ""
            if why:
                changes[place] = row._replace(how=RESTART, text=why)
        return changes

    def reload(self) -> Later:
        """Applies the settings as they are written now. Raises Refused, and then nothing changed.

        The answer comes when the last process that is to be replaced has been.
        """
        node = self._node
        if self._busy or node.swaps.busy or node.stopping:
            raise Refused(BUSY, "the node is being changed already; try again when that is done")
        node.notify.reloading()
        try:
            wanted = self.read()
            changes = self._plan(wanted)
            self._check(changes)
        except CannotAnswer:
            self.bad += 1
            node.notify.ready()
            raise
        self._busy = True
        self.pending = [row for row in changes if row.how == RESTART]
        for row in changes:
            how = "at the next start" if row.how == RESTART else row.text
            log.info("%s: %s is now %s (%s)", row.setting, shown(row.old), shown(row.new), how)
        self._apply_live([row for row in changes if row.how == LIVE])
        done = {row.setting for row in changes if row.how == LIVE}
        result = Later(_ANSWER_S)
        self._apply_next([row for row in changes if row.how == REPLACE], changes, done, result)
        return result

    @staticmethod
    def _check(changes: list[Change]) -> None:
        """Refuses what the settings file cannot know to be wrong."""
        for row in changes:
            problem = group_problem(row.new) if row.setting == "control_group" else ""
            if problem:
                raise Refused(REFUSED, f"nothing was changed: {problem}")

    def _answer(
        self, changes: list[Change], dry_run: bool, done: set[str]
    ) -> dict[str, Any]:
        return {
            "dry_run": dry_run,
            "rows": [row.row(row.setting in done) for row in changes],
            "total": len(changes),
            "shown": len(changes),
        }

    def _apply_live(self, changes: list[Change]) -> None:
        node = self._node
        for row in changes:
            node.settings = with_value(node.settings, row.setting, row.new)
        names = {row.setting for row in changes}
        settings = node.settings
        if names & _LOG:
            logs.change(settings.log_format, settings.log_redact)
        if "log_level" in names:
            everyone = [SUPERVISOR, *(child.name for child in node.children)]
            node.log_book.set_level(everyone, settings.log_level, None, all_of=True)
            node.asker.ask("*", "log level", {"level": settings.log_level})
        if names & _CHILDREN:
            tell_children(node)
        if "control_group" in names:
            node.door.give_to(settings.control_group)
        if "http" in names:
            node.web.move(parse_http(settings.http), time.monotonic())
        if names & {"remote", "remote_operators"}:
            node.remote.change()
        if "bootstrap" in names:
            node.first_nodes = node.first_nodes.anew(settings.bootstrap)
            for child in node.children:
                if child.name == "dht.0" and child.state is State.UP:
                    node.tell(child, "bootstrap", node.first_nodes.body())

    def _apply_next(
        self, rows: list[Change], changes: list[Change], done: set[str], result: Later
    ) -> None:
        """Applies one by one what needs processes to be replaced; what fails stays pending."""
        node = self._node
        if not rows:
            self._busy = False
            self.good += 1
            node.notify.ready()
            node.event("node", {"what": "reloaded", "changed": len(done)})
            result.resolve(self._answer(changes, dry_run=False, done=done))
            return
        row, before = rows[0], node.settings
        node.settings = with_value(before, row.setting, row.new)

        def went(later: Later) -> None:
            good, value = later.outcome or (False, None)
            if good:
                done.add(row.setting)
            else:
                node.settings = with_value(node.settings, row.setting, row.old)
                self.pending.append(row)
                log.error("%s stays %s: %s", row.setting, shown(row.old), value)
            self._apply_next(rows[1:], changes, done, result)

        table, _, role = row.setting.partition(".")
        try:
            if table == "workers":
                later = node.swaps.sizes.resize(role, int(row.new))
            else:
                later = node.swaps.replace(["dht.0"])
        except CannotAnswer as refusal:
            later = Later()
            later.refuse(refusal)
        later.then(went)
