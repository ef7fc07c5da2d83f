"""A fresh Debian with systemd as its first process, in a container: what packages do to a system.

The system is put together once by debootstrap, below `.peers/`, and copied for each test. It needs
root, and nothing of the machine outside is changed.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from tests.interop import peers
from tests.packaging.tools import missing, needed

PACKAGES = ("systemd", "systemd-sysv", "dbus", "init-system-helpers", "python3")
"""What the package is installed onto; more than it depends on is only systemd's own."""
_MAKE_S, _BOOT_S = 600, 60.0


def _mirror() -> str:
    """Returns where this system's packages come from."""
    found = re.search(r"^Uris: (\S+)", peers.private_sources(peers.codename()), re.MULTILINE)
    assert found is not None
    return found[1]


def base() -> Path:
    """Returns the root directory of the system, which is made where it is missing."""
    root = peers.PRIVATE / f"machine-{peers.codename()}"
    peers.PRIVATE.mkdir(exist_ok=True)
    with (peers.PRIVATE / "machine.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not root.is_dir():
            part = root.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            tool = needed("debootstrap")
            environment = dict(tool.environment)
            if tool.root != Path("/"):
                environment["DEBOOTSTRAP_DIR"] = str(tool.root / "usr/share/debootstrap")
            names = ",".join(PACKAGES)
            line = [str(tool.path), "--variant=minbase", f"--include={names}", peers.codename()]
            done = subprocess.run(
                [*line, str(part), _mirror()],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_MAKE_S,
            )
            if done.returncode != 0:
                missing(f"debootstrap: {' '.join(done.stdout.splitlines()[-4:])}")
            part.rename(root)
    return root


class Machine:
    """One system that was booted; it has loopback alone."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            missing("root, to boot a system in a container")
        self._nspawn = needed("systemd-nspawn")
        self._folder = Path(tempfile.mkdtemp(prefix="toxmesh-machine-"))
        self.root = self._folder / "root"
        self._log = self._folder / "console"
        self._process: subprocess.Popen[bytes] | None = None
        self.leader = 0

    def __enter__(self) -> "Machine":
        subprocess.run(["cp", "-a", "--reflink=auto", str(base()), str(self.root)], check=True)
        line = [str(self._nspawn.path), f"--directory={self.root}", "--boot", "--console=pipe"]
        line += ["--private-network", "--register=no", "--keep-unit"]
        line += [f"--machine={self._folder.name.replace('_', '-')}"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                line,
                env=self._nspawn.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + _BOOT_S
        while time.monotonic() < end and self._process.poll() is None:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            self.leader = next(map(int, children.read_text().split()), 0)
            if self.leader and self.run("systemctl", "is-system-running").stdout.strip() in (
                "running",
                "degraded",
            ):
                return self
            time.sleep(0.2)
        said = self._log.read_text("utf-8", "replace")
        self.__exit__(None, None, None)
        raise AssertionError(f"the system does not come up: {said[-2000:]}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.terminate()  # halts the system
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def inside(self, *spaces: str) -> list[str]:
        """Returns what a command has to begin with to run in the system's namespaces."""
        return ["nsenter", "--target", str(self.leader), *(spaces or ("--all",))]

    def run(self, *command: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs a command in the system."""
        return subprocess.run(
            [*self.inside(), *command],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )

    def good(self, *command: str) -> str:
        """Runs a command that has to succeed, and returns what it said."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}: {done.stdout}"
        return done.stdout

    def install(self, package: Path, *options: str) -> str:
        """Installs a package file, and returns what dpkg said."""
        shutil.copy(package, self.root / "root" / package.name)
        return self.good("dpkg", *options, "--install", f"/root/{package.name}")

    def unit(self, name: str, unit: str = "toxmesh.service") -> str:
        """Returns one property of a unit."""
        return self.good("systemctl", "show", "--value", "--property", name, unit).strip()

    def wait_for(self, name: str, value: str, seconds: float = 30.0) -> None:
        """Waits until a property of the service has a value."""
        end = time.monotonic() + seconds
        while self.unit(name) != value:
            assert time.monotonic() < end, (name, self.unit(name), self.journal())
            time.sleep(0.1)

    def journal(self, lines: int = 40) -> str:
        """Returns the last lines of the service's log."""
        line = ("journalctl", "--no-pager", "-o", "cat", "-u", "toxmesh", "-n", str(lines))
        return self.run(*line).stdout
