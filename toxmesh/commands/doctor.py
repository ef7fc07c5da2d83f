"""`toxmesh ops doctor`: settings and a look at everything a node stands on."""

import fcntl
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ops import client, options, screen
from ops.paths import LOCK_FILE, SERVICE_STATE_DIR, running_state_dir
from toxmesh.commands import DirectoryPath

if TYPE_CHECKING:
    from ops.doctor_machine import Finding, Machine

_STATE_DIR_HELP = "State directory [of the settings, else as `toxmesh ops status` has it]."
_COLOURS = {"ok": "green", "warn": "yellow", "deny": "magenta", "fail": "red"}
_WIDTH = 11  # of the longest area
SERVICE_CONFIG = Path("/etc/toxmesh/toxmesh.toml")
"""Of the system's service: ops/systemd/toxmesh.service, ExecStart=."""


@click.command("doctor")
@click.option(
    "--config", type=DirectoryPath, metavar="FILE", help="Its settings file [that of the service]."
)
@click.option("--state-dir", type=DirectoryPath, metavar="DIR", help=_STATE_DIR_HELP)
@click.option("--bad", "only_bad", is_flag=True, help="Leave out what is well.")
@options.as_json
def command(
    config: Path | None, state_dir: Path | None, only_bad: bool, as_json: bool
) -> int:
    """Look for what keeps a node from its work, and print the line that mends each.

    Files, owners and permissions, ports, IPv6, firewall, the kernel's buffers, descriptors, cores,
    memory and swap, clock, the systemd unit, and whether packages are whole. Nothing is changed.
    A node that runs is asked and pinged; one that does not run is no mistake.

    Exit codes: 0 all ok, 1 something to warn of, 2 something fails, 5 nothing fails, but this user
    may not look at all of it.
    """
    from ops import doctor

    machine = _machine(config, state_dir)
    findings = []
    for finding in doctor.examine(machine):
        findings.append(finding)
        if not as_json and not (only_bad and finding.verdict == "ok"):
            _show(finding)
    answer = doctor.plain(findings)
    if as_json:
        options.print_json(answer)
    else:
        count = Counter(row.verdict for row in findings)
        unseen = f", {count['deny']} that this user may not look at" if count["deny"] else ""
        click.echo(f"{count['ok']} ok, {count['warn']} to warn of, {count['fail']} failed{unseen}")
    return int(answer["exit"])


def _show(finding: "Finding") -> None:
    verdict = f"{finding.verdict:<4}"
    if screen.has_colour():
        verdict = click.style(verdict, fg=_COLOURS[finding.verdict])
    click.echo(f"{verdict}  {finding.area:<{_WIDTH}}  {screen.plain(finding.text)}")
    if finding.mend:
        click.echo(f"{'':<6}{'mend with':<{_WIDTH}}  {screen.plain(finding.mend)}")


def _machine(config: Path | None, state_dir: Path | None) -> "Machine":
    """Reads the settings as `toxmesh run` would, and asks the node if one runs."""
    from ops.doctor_machine import Machine, Plan
    from toxmesh import settings_file
    from toxmesh.settings import default_workers

    usual = ",".join(f"{role}={count}" for role, count in default_workers().items())
    if state_dir is None and config is None:
        state_dir = running_state_dir()
        if state_dir == SERVICE_STATE_DIR and SERVICE_CONFIG.is_file():
            config = SERVICE_CONFIG
    plan = Plan(default_workers=usual)
    problems: tuple[str, ...] = ()
    may_read = True
    try:
        settings = settings_file.load(config, {"state_dir": state_dir}).settings
    except settings_file.SettingsError as error:
        problems = tuple(str(problem) for problem in error.problems)
        may_read = error.code != client.NO_PERMISSION
        state_dir = state_dir or running_state_dir()
    else:
        state_dir = settings.state_dir
        plan = Plan(
            listen=settings.listen or Plan.listen,
            udp_port=settings.udp_port,
            tcp_ports=settings.tcp_ports,
            relay_connections=settings.relay_connections,
            processes=settings.brokers + sum(settings.workers.values()),
            default_workers=usual,
        )
    status, why, may_ask = _asked(state_dir)
    return Machine(
        state_dir=state_dir,
        plan=plan,
        status=status,
        no_answer=why,
        config=config,
        problems=problems,
        may_ask=may_ask,
        may_read=may_read,
    )


def _asked(state_dir: Path) -> tuple[dict[str, Any] | None, str, bool]:
    """Returns the node's status, or why there is none although somebody should answer; and whether
    this user may ask."""
    try:
        return client.ask(state_dir, "status"), "", True
    except client.AskError as error:
        may_ask = error.code != client.NO_PERMISSION
        runs = error.code != client.UNREACHABLE or _is_locked(state_dir)
        return None, str(error) if runs else "", may_ask


def _is_locked(state_dir: Path) -> bool:
    """Tells whether a node has the directory, even if its door is silent."""
    try:
        handle = os.open(state_dir / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
