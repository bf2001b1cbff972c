import importlib.util
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from esc_skills.pipeline.llm import messages_api
from esc_skills.pipeline.llm.client import LLMMessage, LLMRequest, Role
from esc_skills.pipeline.llm.door import Door, open_door
from esc_skills.pipeline.llm.settings import LLMSettings

TESTS = Path(__file__).parents[2]
KEY = "sk-test-3f9a1c77d2b84e06"


class Mood(BaseModel):
    """An answer of the tests."""

    model_config = ConfigDict(extra="forbid")

    mood: str = Field(min_length=1)
    strength: int = Field(ge=1, le=5)


def load_server() -> ModuleType:
    """Load tests/messages_server.py, which is a script as well and so stands in no package."""
    if "messages_server" not in sys.modules:
        spec = importlib.util.spec_from_file_location("messages_server", TESTS / "messages_server.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["messages_server"] = module
        spec.loader.exec_module(module)
    return sys.modules["messages_server"]


def make_request(content: str = "How does this line sound?", **given: Any) -> LLMRequest:
    fields: dict[str, Any] = {
        "role": Role.ANNOTATOR,
        "model": "test-model",
        "prompt": "mood@abc123",
        "system": "Name the mood of a line.",
        "messages": (LLMMessage(role="user", content=content),),
        "max_tokens": 50,
        "subject": "d1",
    }
    return LLMRequest(**{**fields, **given})


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the waits between attempts short, and the developer's settings out."""
    monkeypatch.setattr(messages_api, "_FIRST_WAIT", 0.002)
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ESC_LLM_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def messages() -> ModuleType:
    """The module of the local Messages server."""
    return load_server()


@pytest.fixture
def server(messages: ModuleType):
    """A local Messages server; a test sets `server.script`."""
    with messages.MessagesServer() as running:
        yield running


OpenDoor = Callable[..., AbstractAsyncContextManager[Door]]


@pytest.fixture
def door(server: Any, tmp_path: Path) -> OpenDoor:
    """Return a function that opens a door to the local server; keyword arguments are settings."""

    @asynccontextmanager
    async def make(run: str = "", **given: Any) -> AsyncIterator[Door]:
        settings = LLMSettings(**{"llm_base_url": server.url, "api_key": KEY, **given})
        async with open_door(settings, tmp_path / "journal.db", run=run) as made:
            yield made

    return make
