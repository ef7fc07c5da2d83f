"""The Dockerfile, as far as it can be followed without a container engine: what it copies is there,
what it installs runs, answers its health check and ends at its signal."""

import fnmatch
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.commands import CHECKOUT
from tests.processes.node import until

HOME = "/opt/toxmesh"
STOP_S = 15  # docs/install.md: --stop-timeout


class Step(NamedTuple):
    """One instruction."""

    word: str
    rest: str


def stages() -> list[list[Step]]:
    """Returns the instructions of each stage."""
    text = (CHECKOUT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    steps = [Step(*line.split(None, 1)) for line in joined.splitlines() if line.strip()]
    found: list[list[Step]] = []
    for step in steps:
        if step.word == "FROM":
            found.append([])
        found[-1].append(step)
    return found


def all_of(stage: list[Step], word: str) -> list[str]:
    return [" ".join(step.rest.split()) for step in stage if step.word == word]


def one_of(stage: list[Step], word: str) -> str:
    (rest,) = all_of(stage, word)
    return rest


def is_sent(path: str) -> bool:
    """Tells whether .dockerignore lets a path through; the last pattern that fits decides."""
    sent = True
    for line in (CHECKOUT / ".dockerignore").read_text().split():
        pattern = line.removeprefix("!")
        if fnmatch.fnmatch(path, pattern):
            sent = line.startswith("!")
    return sent


def environment(stage: list[Step]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(one_of(stage, "ENV")))


def copies(stage: list[Step]) -> list[tuple[list[str], str]]:
    """Returns sources and place of what is copied from the checkout."""
    rows = [rest.split() for rest in all_of(stage, "COPY") if not rest.startswith("--")]
    return [(row[:-1], row[-1]) for row in rows]


def test_what_is_copied_is_there_and_all_that_the_wheel_needs() -> None:
    build, _ = stages()
    names = [name for sources, _ in copies(build) for name in sources]
    assert [name for name in names if not (CHECKOUT / name).exists() or not is_sent(name)] == []
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    extra = [project["project"]["readme"], *project["project"]["license-files"]]
    assert set(names) == {"pyproject.toml", *packages, *extra}
    assert not is_sent(".git")
    assert not is_sent("tests")


def test_the_image_is_small_unprivileged_and_stopped_in_order() -> None:
    build, image = stages()
    bases = [one_of(stage, "FROM").split()[0] for stage in (build, image)]
    assert bases[0] == bases[1]
    series = re.fullmatch(r"python:3\.(\d+)-slim-\w+", bases[0])
    assert series is not None
    assert int(series[1]) >= 11
    assert all_of(image, "COPY") == [f"--from=build {HOME} {HOME}"]
    uid, gid = one_of(image, "USER").split(":")
    assert f"useradd --uid {uid} --gid {gid}" in one_of(image, "RUN")
    assert int(uid) > 0
    assert environment(image)["STATE_DIRECTORY"] == one_of(image, "VOLUME")
    assert one_of(image, "STOPSIGNAL") == "SIGTERM"


@pytest.mark.slow
@pytest.mark.process
def test_what_the_image_installs_runs_is_healthy_and_ends_at_its_signal(tmp_path: Path) -> None:
    build, image = stages()
    source, home = tmp_path / "src", tmp_path / "opt/toxmesh"
    for names, place in copies(build):
        for name in names:
            target = source / (name if place.endswith("/") else place)
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-r", str(CHECKOUT / name), str(target)], check=True)
    script = one_of(build, "RUN").replace(HOME, str(home))
    assert script.startswith("python ")
    subprocess.run(
        ["sh", "-ec", sys.executable + script.removeprefix("python")],
        cwd=source,
        check=True,
        stdout=subprocess.DEVNULL,
    )

    state = tmp_path / "state"
    variables = environment(image)
    variables["PATH"] = variables["PATH"].replace(HOME, str(home)).replace("$PATH", os.defpath)
    variables["STATE_DIRECTORY"] = str(state)
    command = [*json.loads(one_of(image, "ENTRYPOINT")), *json.loads(one_of(image, "CMD"))]
    options = ["--listen", "127.0.0.1", "--http", "off", "--no-lan-discovery"]
    health = one_of(image, "HEALTHCHECK").partition(" CMD ")[2]

    def healthy() -> bool:
        done = subprocess.run(["sh", "-c", health], cwd="/", env=variables, capture_output=True)
        return done.returncode == 0

    assert not healthy()
    with subprocess.Popen(
        [*command, *options], cwd="/", env=variables, stdout=subprocess.PIPE, text=True
    ) as node:
        assert node.stdout is not None
        try:
            assert node.stdout.readline().startswith("ready ")
            assert until(healthy, 10)
            node.send_signal(signal.SIGSTOP)
            assert not healthy()
            node.send_signal(signal.SIGCONT)
            node.send_signal(signal.Signals[one_of(image, "STOPSIGNAL")])
            assert node.wait(STOP_S) == 0
        finally:
            node.kill()
    assert (state / "keys").stat().st_mode & 0o777 == 0o600
