import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

from esc_skills.server.app import create_server
from esc_skills.server.watch import LiveBank
from esc_skills.skills_bank.errors import BankError
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.settings import Settings

SKILL = "company-in-grief"
GRIEVING = "My grandmother died last month and I am so sad, I cry and miss her every day."


def edit(folder: Path, before: str, after: str, skill: str = SKILL) -> None:
    path = folder / skill / "SKILL.md"
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


async def until(condition, seconds: float = 5.0) -> float:
    """Wait until `condition` (sync or async) holds; return how long it took."""
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return time.perf_counter() - began
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {seconds} s")


@pytest.fixture
def watched(loader) -> LiveBank:
    return LiveBank(loader, watch=True)


async def ready(live: LiveBank) -> str:
    """Wait until the bank is loaded and its folder is followed; return the version."""
    view = await live.view()
    await asyncio.wait_for(live.following.wait(), 5)
    return view.bank.version


async def test_an_edit_is_live_within_a_second_and_clients_are_told(watched, folder, era):
    heard: list[float] = []

    async def on_message(message: Any) -> None:
        if "list_changed" in str(getattr(message, "method", "")):
            heard.append(time.perf_counter())

    async with Client(create_server(watched), mode=era, message_handler=on_message) as client:
        before = await ready(watched)
        listener = await listen(client, heard) if era == "auto" else None
        edited = time.perf_counter()
        edit(folder, "Stay beside it", "Remain beside it")

        async def live_now() -> bool:
            answer = (await client.call_tool("read_skill", {"name": SKILL})).structured_content
            return "Remain beside it" in answer["text"] and answer["bank_version"] != before

        assert await until(live_now) < 1.0
        await until(lambda: heard)
        assert heard[0] - edited < 1.0
        if listener is not None:
            listener.cancel()


async def listen(client: Client, heard: list[float]) -> "asyncio.Task[None]":
    """Open a `subscriptions/listen` stream and note each resources/list_changed."""
    from mcp.client.subscriptions import listen as open_stream
    from mcp.shared.subscriptions import ResourcesListChanged

    opened = asyncio.Event()

    async def follow() -> None:
        async with open_stream(client.session, resources_list_changed=True) as stream:
            opened.set()
            async for event in stream:
                if isinstance(event, ResourcesListChanged):
                    heard.append(time.perf_counter())

    task = asyncio.create_task(follow())
    await asyncio.wait_for(opened.wait(), 5)
    return task


async def test_a_broken_edit_keeps_the_last_good_version_and_is_reported(watched, folder, caplog):
    caplog.set_level(logging.INFO, logger="esc_skills")
    async with Client(create_server(watched)) as client:
        await ready(watched)
        good = (folder / SKILL / "SKILL.md").read_text(encoding="utf-8")
        (folder / SKILL / "SKILL.md").write_text("---\nname: wrong\n---\nno skill", encoding="utf-8")

        async def reported() -> bool:
            manifest = json.loads((await client.read_resource("bank://manifest"))[0].text)
            return any(SKILL in problem for problem in manifest["problems"])

        await until(reported)
        answer = (await client.call_tool("read_skill", {"name": SKILL})).structured_content
        assert answer["text"] == good
        assert any("refused" in record.message and SKILL in record.message for record in caplog.records)

        (folder / SKILL / "SKILL.md").write_text(good.replace("Grief is", "Mourning is"), encoding="utf-8")

        async def repaired() -> bool:
            manifest = json.loads((await client.read_resource("bank://manifest"))[0].text)
            return not manifest["problems"]

        await until(repaired)
        answer = (await client.call_tool("read_skill", {"name": SKILL})).structured_content
        assert "Mourning is" in answer["text"]


async def test_a_new_skill_and_a_removed_one_show_up(watched, folder):
    async with Client(create_server(watched)) as client:
        await ready(watched)
        text = (folder / SKILL / "SKILL.md").read_text(encoding="utf-8").replace(SKILL, "company-in-loss")
        (folder / "company-in-loss").mkdir()
        (folder / "company-in-loss" / "SKILL.md").write_text(text, encoding="utf-8")
        (folder / SKILL / "SKILL.md").unlink()
        (folder / SKILL).rmdir()

        async def names() -> set[str]:
            answer = (await client.call_tool("list_skills", {})).structured_content
            return {skill["name"] for skill in answer["skills"]}

        async def settled() -> bool:
            return {"company-in-loss"} == await names() - {"rolling-with-resistance", "steadying-before-a-deadline"}

        await until(settled)
        uris = {str(resource.uri) for resource in await client.list_resources()}
        assert "skill://company-in-loss/SKILL.md" in uris
        assert f"skill://{SKILL}/SKILL.md" not in uris


async def test_calls_in_flight_finish_on_the_version_they_began_with(folder, loader):
    """50 calls are under way when a skill is edited: each answers wholly from one version, none fails."""

    class SlowEncoder(FakeEncoder):
        def read(self, turns: Any) -> Any:
            time.sleep(0.02)
            return super().read(turns)

    loader._encoder = SlowEncoder()
    live = LiveBank(loader, watch=True)
    async with Client(create_server(live)) as client:
        before = await ready(live)
        calls = [
            asyncio.create_task(client.call_tool("select_skill", {"messages": GRIEVING, "min_score": 0.0}))
            for _ in range(50)
        ]
        await asyncio.sleep(0.1)
        edit(folder, "Say the sadness plainly.", "Put the sadness into plain words.")
        answers = [(await task).structured_content for task in calls]
        await until(lambda: live.peek().bank.version != before)
        after = live.peek().bank.version
        late = (await client.call_tool("select_skill", {"messages": GRIEVING, "min_score": 0.0})).structured_content

    def wording(answer: dict[str, Any]) -> str:
        grief = next(skill for skill in answer["skills"] if skill["name"] == SKILL)
        return next(action["how"] for action in grief["next_actions"] if action["action"] == "feeling_reflection")

    assert {answer["bank_version"] for answer in answers} <= {before, after}
    assert before in {answer["bank_version"] for answer in answers}
    for answer in [*answers, late]:
        new = "Put the sadness" in wording(answer)
        assert answer["bank_version"] == (after if new else before)
    assert late["bank_version"] == after


async def test_a_bank_that_cannot_be_loaded_says_why_and_recovers(tmp_path, folder):
    from esc_skills.server.loader import BankLoader

    empty = tmp_path / "broken"
    (empty / SKILL).mkdir(parents=True)
    (empty / SKILL / "SKILL.md").write_text("nothing", encoding="utf-8")
    live = LiveBank(BankLoader(Settings(bank_dir=empty), encoder=FakeEncoder()), watch=True)
    async with Client(create_server(live)) as client:
        failed = await client.call_tool("list_skills", {}, raise_on_error=False)
        assert failed.is_error
        assert "no skill that can be served" in failed.content[0].text
        assert live.status() == "failed"
        with pytest.raises(BankError):
            await live.view()
        await asyncio.wait_for(live.following.wait(), 5)
        good = (folder / SKILL / "SKILL.md").read_text(encoding="utf-8")
        (empty / SKILL / "SKILL.md").write_text(good, encoding="utf-8")
        await until(lambda: live.status() == "ok")
        assert (await client.call_tool("list_skills", {})).structured_content["total"] == 1


@pytest.fixture
def store_live(tmp_path, folder):
    """A bank with two versions, watched."""
    from esc_skills.server.loader import BankLoader
    from esc_skills.skills_bank.store import BankStore

    root = tmp_path / "store"
    store = BankStore(root)
    store.init_from(folder)
    edit(folder, "Stay beside it", "Remain beside it")
    store.commit(folder, reason="a second version")
    return LiveBank(BankLoader(Settings(bank_dir=root), encoder=FakeEncoder()), watch=True), store


async def test_history_and_rollback_through_the_tools(store_live):
    live, store = store_live
    async with Client(create_server(live)) as client:
        second = await ready(live)
        history = (await client.call_tool("bank_history", {})).structured_content
        assert [version["active"] for version in history["versions"]] == [True, False]
        first = history["versions"][1]["version"]
        rolled = (await client.call_tool("rollback_bank", {"version": first})).structured_content
        assert rolled == {
            "previous_version": second,
            "bank_version": first,
            "added": [],
            "removed": [],
            "changed": [SKILL],
        }
        answer = (await client.call_tool("read_skill", {"name": SKILL})).structured_content
        assert "Stay beside it" in answer["text"]
        assert answer["bank_version"] == first
        assert store.active() == first


async def test_rolling_back_to_a_version_that_is_not_there_names_those_that_are(store_live):
    live, store = store_live
    async with Client(create_server(live)) as client:
        failed = await client.call_tool("rollback_bank", {"version": "v9999"}, raise_on_error=False)
    assert failed.is_error
    assert "v9999" in failed.content[0].text
    assert store.active() in failed.content[0].text


async def test_an_edit_in_the_working_folder_becomes_a_version(store_live):
    live, store = store_live
    async with Client(create_server(live)) as client:
        before = await ready(live)
        edit(store.working, "Remain beside it", "Keep beside it")
        took = await until(lambda: live.peek().bank.version != before)
        assert took < 1.0
        answer = (await client.call_tool("read_skill", {"name": SKILL})).structured_content
        assert "Keep beside it" in answer["text"]
        assert answer["bank_version"] == store.active()


async def test_a_switch_made_by_another_process_is_followed(store_live):
    live, store = store_live
    async with Client(create_server(live)):
        before = await ready(live)
        first = store.history()[1].version
        store.rollback(first)
        await until(lambda: live.peek().bank.version != before)
        assert live.peek().bank.version == first


@pytest.mark.slow
async def test_clients_over_http_are_told_too(folder, era):
    """Over a real socket: a legacy client hears on its GET stream, a modern one on its listen stream."""
    import subprocess
    import sys

    import httpx2 as httpx

    port = free_port()
    script = Path(__file__).with_name("serve_fake.py")
    with subprocess.Popen(
        [sys.executable, str(script), str(folder), str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            async with httpx.AsyncClient() as http:

                async def up() -> bool:
                    try:
                        return (await http.get(f"http://127.0.0.1:{port}/health")).status_code == 200
                    except httpx.TransportError:
                        return False

                await until(up, 30)
            heard: list[float] = []

            async def on_message(message: Any) -> None:
                if "list_changed" in str(getattr(message, "method", "")):
                    heard.append(time.perf_counter())

            async with Client(f"http://127.0.0.1:{port}/mcp", mode=era, message_handler=on_message) as client:
                listener = await listen(client, heard) if era == "auto" else None
                await asyncio.sleep(1)  # the watch and the client's stream are up
                edit(folder, "Stay beside it", "Remain beside it")
                await until(lambda: heard)
                if listener is not None:
                    listener.cancel()
        finally:
            process.terminate()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
