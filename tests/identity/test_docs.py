"""The echo bot of the README and the guide runs as it stands there."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

import toxmesh
from tests.identity.clock import run, until
from tests.identity.test_identity import LOCAL, Diary, Neighbours, befriend, node

ROOT = Path(__file__).resolve().parents[2]


def program(page: str) -> str:
    """Returns the first Python block of a page."""
    found = re.search(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("page", ["README.md", "docs/identity.md"])
def test_the_echo_bot_answers(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = program(page)
    start = "asyncio.run(main())\n"
    assert code.endswith(start)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    made: list[toxmesh.Identity] = []

    async def talk() -> None:
        async with Neighbours() as town, town.identity("Alice") as alice:
            known = [node(one) for one in town._made[:1]]

            class Local(toxmesh.Identity):
                """The same, in the network of this test."""

                def __init__(self, *arguments: Any, **options: Any) -> None:
                    super().__init__(
                        *arguments, **options, bootstrap=known, ports=(0, 0), hosts=LOCAL
                    )
                    made.append(self)

            names: dict[str, Any] = {}
            exec(compile(code.removesuffix(start), page, "exec"), names)
            names["Identity"] = Local
            bot = asyncio.create_task(names["main"]())
            await asyncio.sleep(0.1)
            hers = Diary(alice)
            await befriend(alice, made[0])
            alice.send(made[0].tox_id, "is anybody there?")
            await until(hers.texts, "the echo comes")
            assert hers.texts() == ["is anybody there?"]
            bot.cancel()
            await asyncio.gather(bot, return_exceptions=True)
            again = asyncio.create_task(names["main"]())
            await asyncio.sleep(0.1)
            again.cancel()
            await asyncio.gather(again, return_exceptions=True)

    run(talk())
    assert capsys.readouterr().out == f"{made[0].tox_id}\n" * 2


def test_everything_named_in_the_guide_is_there() -> None:
    from toxmesh.identity import api

    for name in api.__all__:
        assert getattr(toxmesh, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        toxmesh.Nothing  # noqa: B018  # the look is the test
    text = (ROOT / "docs/identity.md").read_text("utf-8")
    for name in re.findall(r"`(?:await )?([a-z_]+)\(", text):
        assert hasattr(toxmesh.Identity, name) or name in ("events",), name
