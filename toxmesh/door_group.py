"""Who may open the control door besides the user that runs the node: the members of a group."""

import grp
import os
import shutil
import stat
from pathlib import Path


def group_problem(group: str) -> str:
    """Says why this process cannot let a group in; empty if it can, or if there is no group."""
    if not group:
        return ""
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:
        return f"control_group: there is no group {group} on this machine"
    if os.geteuid() and number not in {os.getegid(), *os.getgroups()}:
        return (
            f"control_group: the user of this node is no member of {group}; make it one with:"
            f" usermod -aG {group} USER, and start the node again"
        )
    return ""


def let_in(path: Path, group: str) -> str:
    """Lets a group (empty: nobody) open the socket at `path`, and pass through its directory, in
    which it can list nothing. Returns why that cannot be, or nothing."""
    problem = group_problem(group)
    if problem:
        return problem
    directory = path.parent
    try:
        if group:
            shutil.chown(path, group=group)
            mode = directory.stat().st_mode
            if not mode & stat.S_IXOTH:
                shutil.chown(directory, group=group)
                directory.chmod(stat.S_IMODE(mode) | stat.S_IXGRP)
        path.chmod(0o660 if group else 0o600)
    except OSError as error:
        reason = (error.strerror or "?").lower()
        return (
            f"control_group: {directory} cannot be given to {group} ({reason}); do it by:"
            f" chgrp {group} '{directory}' && chmod g+x '{directory}'"
        )
    return ""
