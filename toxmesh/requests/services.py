"""Requests that switch services of the running node, and say what it tells of itself."""

from typing import TYPE_CHECKING, Any

from core.asking import USAGE, CannotAnswer, text_of
from core.services import reason
from toxmesh import motd_template, services, status
from toxmesh.control import Later, Request
from toxmesh.reload import tell_children, when_heard, with_value
from toxmesh.requests.change import flag_of

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor


def requests(node: "Supervisor") -> dict[str, Request]:
    """Returns the requests of this group."""
    return {
        "services": Request(lambda args: _listed(node, [])),
        "services set": Request(lambda args: _switch(node, args), full=True),
        "motd": Request(lambda args: _motd(node)),
        "motd set": Request(lambda args: _set_motd(node, args), full=True),
    }


def _listed(node: "Supervisor", changed: list[str]) -> dict[str, Any]:
    drops = status.totals(node)[0].drops
    rows = [
        {
            "name": name,
            "state": state,
            "why": services.why_absent(node, name) or None,
            "refused": drops[reason(name)],
        }
        for name, state in services.states(node).items()
    ]
    return {"rows": rows, "total": len(rows), "shown": len(rows), "changed": changed}


def _switch(node: "Supervisor", args: dict[str, Any]) -> Later:
    """Switches services on or off in the running node."""
    names = args.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CannotAnswer(USAGE, "names must be a list of services")
    if "on" not in args:
        raise CannotAnswer(USAGE, "on must be true or false")
    changed = services.switch(node, names, flag_of(args, "on"))
    return when_heard(node, lambda: _listed(node, changed))


def _motd(node: "Supervisor") -> dict[str, Any]:
    template = node.settings.motd
    text = motd_template.fill(template, node.motd.values())
    return {
        "template": template,
        "text": text,
        "bytes": len(text.encode()),
        "most": motd_template.MAX_SIZE,
        "values": node.motd.values(),
    }


def _set_motd(node: "Supervisor", args: dict[str, Any]) -> Later:
    """Gives the running node another message of the day."""
    template = text_of(args, "text", most=motd_template.MAX_TEMPLATE)
    wrong = motd_template.problem(template)
    if wrong:
        raise CannotAnswer(USAGE, f"the message {wrong}")
    if template != node.settings.motd:
        node.settings = with_value(node.settings, "motd", template)
        tell_children(node)
    return when_heard(node, lambda: _motd(node))
