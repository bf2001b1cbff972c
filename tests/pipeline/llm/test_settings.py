"""Settings, prompts and the scripted client."""

import pytest

from esc_skills.pipeline.llm.client import LLMClient, Role
from esc_skills.pipeline.llm.door import open_door
from esc_skills.pipeline.llm.lanes import proxy_for
from esc_skills.pipeline.llm.prompts import load_prompt
from esc_skills.pipeline.llm.scripted import ScriptedClient
from esc_skills.pipeline.llm.settings import LLMSettings
from esc_skills.skills_bank.errors import InputError, LLMAnswerError

from .conftest import KEY, Mood, make_request


@pytest.mark.parametrize("role", list(Role))
def test_a_role_without_a_model_names_its_variable(role, monkeypatch):
    monkeypatch.delenv(f"ESC_MODEL_{role.upper()}", raising=False)
    with pytest.raises(InputError, match=f"ESC_MODEL_{role.upper()}"):
        LLMSettings().model_for(role)
    monkeypatch.setenv(f"ESC_MODEL_{role.upper()}", "some-model")
    assert LLMSettings().model_for(role) == "some-model"


def test_the_key_and_the_server_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://one")
    settings = LLMSettings()
    assert settings.key().get_secret_value() == KEY and settings.llm_base_url == "http://one"
    assert KEY not in repr(settings) and KEY not in settings.model_dump_json()
    monkeypatch.setenv("ESC_LLM_BASE_URL", "http://two")
    assert LLMSettings().llm_base_url == "http://two"


async def test_without_a_key_anthropics_server_is_not_asked(tmp_path):
    with pytest.raises(InputError, match="ANTHROPIC_API_KEY"):
        async with open_door(LLMSettings(), tmp_path / "journal.db"):
            pass


async def test_without_a_key_another_server_is(server, tmp_path, monkeypatch):
    monkeypatch.setenv("ESC_LLM_BASE_URL", server.url)
    async with open_door(LLMSettings(), tmp_path / "journal.db") as client:
        assert await client.text(make_request()) == "ok"


def test_the_proxy_of_the_environment_is_used(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert proxy_for("https://api.example.org") is None
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert proxy_for("https://api.example.org/v") == "http://proxy:3128"
    assert proxy_for("http://127.0.0.1:80") is None


def test_a_prompt_is_versioned_by_its_text(tmp_path):
    file = tmp_path / "mood.prompt.md"
    file.write_text("Name the mood.", encoding="utf-8")
    first = load_prompt(file)
    assert (first.name, first.text) == ("mood", "Name the mood.") and first.label == f"mood@{first.version}"
    file.write_text("Name the mood!", encoding="utf-8")
    assert load_prompt(file).version != first.version and len(first.version) == 6
    assert load_prompt("author.prompt.md").name == "author"
    with pytest.raises(InputError, match=r"none\.prompt\.md"):
        load_prompt("none.prompt.md")


async def test_the_scripted_client_answers_with_texts_and_models():
    client = ScriptedClient(lambda request: Mood(mood="calm", strength=1) if request.subject == "d1" else "plain")
    as_client: LLMClient = client
    assert await as_client.structured(make_request(), Mood) == Mood(mood="calm", strength=1)
    assert await as_client.text(make_request(subject="d2")) == "plain"
    assert [request.subject for request in client.requests] == ["d1", "d2"]


async def test_the_scripted_client_repairs_once_as_the_real_one_does():
    answers = ["nothing", '{"mood": "calm", "strength": 1}', "nothing", "nothing"]
    client = ScriptedClient(lambda request: answers.pop(0))
    assert (await client.structured(make_request(), Mood)).mood == "calm"
    assert "does not fit the schema" in client.requests[1].messages[-1].content
    with pytest.raises(LLMAnswerError, match="mood@abc123 on d1"):
        await client.structured(make_request(), Mood)
