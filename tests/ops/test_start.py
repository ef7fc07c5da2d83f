"""`toxmesh ops` starts at once: no command loads what only the node needs before it has to."""

import subprocess
import sys

from tests.cli.commands import CHECKOUT

HEAVY = ("pydantic", "zmq", "psutil", "nacl", "msgpack", "core.packets", "core.crypto", "curses")
SCRIPT = f"""
import sys, click
from toxmesh import cli

def load(command):
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            load(command.get_command(context, name))

load(cli.ops)
print(*sorted(set(sys.modules) & set({HEAVY})))
"""


def test_no_command_of_the_operator_loads_what_only_the_node_needs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
