"""Rules that hold for all of the package's code, whoever wrote it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGES = ("toxmesh", "ops", "workers", "broker", "core")
FILES = sorted(
    path.relative_to(CHECKOUT) for name in PACKAGES for path in (CHECKOUT / name).rglob("*.py")
)
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill"}
FORBIDDEN_CALLS = {"eval", "compile", "__import__", "print", "input", "breakpoint"}
ALLOWED = {
    Path("core/wire.py"): {"compile", "exec"},  # packet layouts of our own
    Path("core/wire_compiler.py"): {"compile", "exec"},
    Path("toxmesh/supervisor.py"): {"print"},  # the ready line
}


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in FILES:
        yield path, ast.parse((CHECKOUT / path).read_text("utf-8"), str(path))


def calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.lineno, node.func.id


def test_the_floors_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as l; l()"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _narrows(test: ast.expr) -> bool:
    """Tells whether an assertion only tells the type checker what is so: no check of any input."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test = test.operand
    if isinstance(test, ast.Call):
        return isinstance(test.func, ast.Name) and test.func.id == "isinstance"
    return isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Is | ast.IsNot)


def test_no_check_is_an_assertion_for_python_o_leaves_them_out() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert) and not _narrows(node.test)
    ]
    assert found == []


def test_s39_nothing_turns_data_into_code() -> None:
    found = []
    for path, tree in trees():
        allowed = ALLOWED.get(path, set())
        found += [
            f"{path}:{line} {name}"
            for line, name in calls(tree)
            if name in (FORBIDDEN_CALLS | {"exec"}) - allowed
        ]
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [(node.module or "").split(".")[0]]
            found += [f"{path} {name}" for name in names if name in FORBIDDEN_MODULES]
            if isinstance(node, ast.keyword) and node.arg == "shell":
                found.append(f"{path} shell=")
    assert found == []


def _public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Yields what a reader meets: public functions and classes, and methods of public classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name.startswith("_"):
                continue
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (
                    part
                    for part in node.body
                    if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
                    and not part.name.startswith("_")
                )


def test_every_module_and_every_public_function_says_what_it_is_for() -> None:
    found = [str(path) for path, tree in trees() if tree.body and not ast.get_docstring(tree)]
    found += [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in trees()
        for node in _public(tree)
        if not ast.get_docstring(node)
    ]
    assert found == []


CATCHERS = {  # what must outlive any packet, any one connection, any question
    "workers/host.py",
    "workers/datagrams.py",
    "broker/tcp.py",
    "broker/tcp_commits.py",
    "core/link/asked.py",
    "toxmesh/control.py",
    "toxmesh/web/door.py",
}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_only_what_must_outlive_anything_catches_everything(path: Path) -> None:
    tree = ast.parse((CHECKOUT / path).read_text("utf-8"))
    found = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None
            or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
        )
    ]
    assert not found or str(path) in CATCHERS, found


def test_no_file_has_grown_beyond_what_can_be_held() -> None:
    sizes = {str(path): len((CHECKOUT / path).read_text().splitlines()) for path in FILES}
    assert {path: size for path, size in sizes.items() if size > 520} == {}
