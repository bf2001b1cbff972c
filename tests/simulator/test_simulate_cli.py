"""`esc-skills simulate`, `replay` and `compare` as a person calls them, with the shipped models and with a server."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from esc_skills.simulator.cli_simulate import compare_app, replace_section, replay_app, simulate_app
from esc_skills.simulator.profiles import load_profiles
from esc_skills.simulator.rehearsal import filled
from esc_skills.simulator.run import DONE, JOURNAL, RunFolder
from esc_skills.skills_bank.errors import BudgetError, InputError

from ..messages_server import MessagesServer, Reply, default_script, schema_of

MODELS = {role: f"model-{role.lower()}" for role in ("SEEKER", "SCORER", "SUPPORTER")}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, os.environ.get(name, "1" if "THREADS" in name else "false"))


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch, isolated_home) -> Path:
    monkeypatch.setenv("ESC_RUNS_DIR", str(tmp_path / "runs"))
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ESC_LLM_BASE_URL", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "runs"


def call(app, *arguments: str, fails: type[BaseException] | None = None) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if fails is not None:
        assert isinstance(result.exception, fails), (result.exception, result.output)
        return str(result.exception)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def local(*more: str) -> str:
    return call(simulate_app, "--profiles", "evaluation", "--n", "4", "--workers", "1", *more)


@pytest.mark.slow
def test_a_run_is_made_shown_and_compared(runs, tmp_path):
    printed = local("--agent", "no-skill")
    local("--agent", "bank")
    names = sorted(path.name for path in runs.iterdir())
    assert [name.split("-local-")[0] for name in names] == ["bank", "no-skill"]
    assert "## By hidden need" in printed and names[1] in printed
    bank = RunFolder(runs / names[0])
    talks = list(bank.transcripts())
    assert len(talks) == 4 and all(turn.bank_version for talk in talks for turn in talk.turns)
    assert {"summary.json", "summary.md", "trajectories.svg", DONE} <= {path.name for path in bank.folder.iterdir()}

    shown = call(replay_app, "bank", talks[0].profile)
    for turn in talks[0].turns:
        assert turn.supporter.split()[0] in shown
    assert f"{talks[0].end} after {len(talks[0].turns)} replies" in shown
    assert json.loads(call(replay_app, "bank", talks[0].profile, "--json"))["points"] == talks[0].points

    page = tmp_path / "page.md"
    page.write_text("before\n<!-- compare: evaluation -->\nold\n<!-- end of compare: evaluation -->\nafter\n")
    told = call(compare_app, "no-skill", "bank", "--write", str(page))
    text = page.read_text(encoding="utf-8")
    assert told.strip() in text and "old" not in text and text.startswith("before") and text.endswith("after\n")
    both = [[t.seed for t in RunFolder(runs / name).transcripts()] for name in names]
    assert both[0] == both[1]


@pytest.mark.slow
def test_the_real_cast_gives_the_same_bytes_in_two_processes_as_in_one(tmp_path):
    for workers in ("1", "2"):
        call(
            simulate_app, "--profiles", "evolution", "--n", "6", "--agent", "bank", "--workers", workers,
            "--out", str(tmp_path / workers),
        )  # fmt: skip
    assert (tmp_path / "1" / DONE).read_bytes() == (tmp_path / "2" / DONE).read_bytes()


@pytest.mark.slow
def test_through_the_shipped_server_the_talks_begin_as_with_the_bank(tmp_path):
    for agent in ("bank", "mcp"):
        arguments = ["--profiles", "evaluation", "--n", "3", "--workers", "1", "--agent", agent]
        out = ["--out", str(tmp_path / agent)]
        command = [sys.executable, "-m", "esc_skills.server", "simulate", *arguments, *out]
        subprocess.run(command, check=True, capture_output=True)
    bank, mcp = (list(RunFolder(tmp_path / agent).transcripts()) for agent in ("bank", "mcp"))
    for mine, theirs in zip(bank, mcp, strict=True):
        # The server reads the turns of a talk in one run of the encoder, whose last digits then differ; the opening
        # stands alone in both.
        assert mine.turns[0].model_dump_json() == theirs.turns[0].model_dump_json()
        assert all(turn.bank_version == mine.turns[0].bank_version for turn in theirs.turns)


@pytest.mark.slow
def test_on_a_ray_cluster_the_talks_are_the_same(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed (extra 'ray')")
    for engine in ("local", "ray"):
        arguments = ["--profiles", "evaluation", "--n", "3", "--workers", "1", "--agent", "no-skill"]
        command = [sys.executable, "-m", "esc_skills.server", "simulate", *arguments, "--engine", engine]
        environment = {**os.environ, "ESC_RAY_ADDRESS": "local", "ESC_RAY_IN_FLIGHT": "2"}
        done = subprocess.run([*command, "--out", str(tmp_path / engine)], env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert (tmp_path / "local" / DONE).read_bytes() == (tmp_path / "ray" / DONE).read_bytes()


@pytest.mark.slow
def test_models_do_not_talk_on_a_cluster(models, tmp_path):
    with MessagesServer(script) as server:
        models(server)
        assert "--engine local only" in asking(tmp_path / "a", "--engine", "ray", fails=InputError)
        assert server.requests == []


@pytest.mark.slow
def test_a_dry_run_holds_no_talk(runs):
    assert "no call to a language model" in local("--dry-run")
    assert not runs.exists()


def test_mistakes_are_named(tmp_path):
    result = CliRunner().invoke(simulate_app, ["--profiles", "evaluation", "--agent", "parrot"])
    assert result.exit_code == 2 and "'parrot' is no agent" in result.output
    assert "No profiles at 'nowhere'" in call(simulate_app, "--profiles", "nowhere", fails=InputError)
    assert "No run 'nothing'" in call(replay_app, "nothing", "x", fails=InputError)
    assert "no place for these tables" in _error(tmp_path)


def _error(tmp_path: Path) -> str:
    with pytest.raises(InputError) as caught:
        replace_section(tmp_path / "absent.md", "evaluation", "x")
    return str(caught.value)


def test_a_value_is_made_for_any_schema():
    schema = {
        "type": "object",
        "required": ["a", "b", "c", "d", "e"],
        "$defs": {"K": {"enum": ["k", "l"]}},
        "properties": {
            "a": {"type": "string", "maxLength": 3},
            "b": {"$ref": "#/$defs/K"},
            "c": {"type": "integer", "minimum": 2, "maximum": 9},
            "d": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "e": {"type": "array", "items": {"type": "number"}, "minItems": 2},
        },
    }
    assert filled(schema, schema, "words") == {"a": "wor", "b": "k", "c": 2, "d": False, "e": [0, 0]}


# with a server of models ---------------------------------------------------------------------------------------------


def script(body):
    """Answer as a seeker's scorer does with a change by the words, or with a line."""
    schema = schema_of(body)
    rng = random.Random(json.dumps(body["messages"]))
    if schema is not None:
        return {**default_script(body), "change": rng.randint(-4, 8)}
    return f"Line {rng.randint(0, 10**6)}."


@pytest.fixture
def models(monkeypatch):
    for role, model in MODELS.items():
        monkeypatch.setenv(f"ESC_MODEL_{role}", model)
    monkeypatch.setenv("ESC_LLM_CACHE", "false")

    def use(server: MessagesServer) -> MessagesServer:
        monkeypatch.setenv("ESC_LLM_BASE_URL", server.url)
        return server

    return use


def asking(out: Path, *more: str, fails: type[BaseException] | None = None) -> str:
    return call(
        simulate_app, "--profiles", "evaluation", "--n", "3", "--agent", "no-skill", "--supporter", "llm",
        "--seeker", "llm", "--out", str(out), *more, fails=fails,
    )  # fmt: skip


@pytest.mark.slow
def test_models_play_both_sides_and_what_they_took_is_recorded(models, tmp_path):
    with MessagesServer(script) as server:
        models(server)
        asking(tmp_path / "a")
        talks = list(RunFolder(tmp_path / "a").transcripts())
        assert sum(talk.spent.tokens for talk in talks) == 120 * server.answered
        assert all(turn.agent_spent.tokens == 120 for talk in talks for turn in talk.turns)
        assert all(turn.seeker_spent.tokens == 240 for talk in talks for turn in talk.turns if turn.scored)
        assert {seen.body["model"] for seen in server.requests} == set(MODELS.values())
        supporters = [seen.body for seen in server.requests if seen.body["model"] == MODELS["SUPPORTER"]]
    needs = [profile.wish for profile in load_profiles("evaluation").profiles]
    given = json.dumps(supporters)
    assert not [wish for wish in needs if wish in given]


@pytest.mark.slow
def test_a_cap_stops_the_run_and_the_rest_pays_nothing_twice(models, tmp_path):
    with MessagesServer(script) as server:
        models(server)
        assert "cap of 20 calls" in asking(tmp_path / "a", "--cap-calls", "20", fails=BudgetError)
        assert server.answered <= 20 and (tmp_path / "a" / JOURNAL).is_file()
        asking(tmp_path / "a", "--resume")
        asking(tmp_path / "b")
        paid = server.answered
        assert (tmp_path / "a" / DONE).read_bytes() == (tmp_path / "b" / DONE).read_bytes()
    assert paid == 2 * sum(1 for t in RunFolder(tmp_path / "a").transcripts() for _ in _calls(t))


def _calls(talk):
    for turn in talk.turns:
        yield from range(3 if turn.scored else 1)


@pytest.mark.slow
def test_a_model_that_refuses_is_part_of_the_record(models, tmp_path):
    def refuses(body):
        if body["model"] == MODELS["SUPPORTER"]:
            return Reply("", stop_reason="refusal")
        return script(body)

    with MessagesServer(refuses) as server:
        models(server)
        printed = asking(tmp_path / "a")
    talks = list(RunFolder(tmp_path / "a").transcripts())
    assert all(turn.oddities[0] == "refused_reply" for talk in talks for turn in talk.turns)
    assert all(talk.trouble == "the model refused to answer" and talk.end != "refused" for talk in talks)
    assert "refused reply" in printed


@pytest.mark.slow
def test_a_dry_run_counts_the_calls_and_sends_none(models, tmp_path):
    with MessagesServer(script) as server:
        models(server)
        printed = asking(tmp_path / "a", "--dry-run", "--cap-calls", "10")
        assert server.requests == []
    assert "supporter (supporter@" in printed and "30 calls" in printed and "may reach the cap" in printed
    assert not (tmp_path / "a").exists()


def test_a_model_is_not_asked_to_repeat_a_profile(models, tmp_path):
    with MessagesServer(script) as server:
        models(server)
        told = call(
            simulate_app, "--profiles", "evaluation", "--n", "101", "--agent", "no-skill", "--supporter", "llm",
            fails=InputError,
        )  # fmt: skip
        assert "another --seed" in told and server.requests == []


def test_without_a_model_setting_it_says_which(monkeypatch, tmp_path):
    told = asking(tmp_path / "a", fails=InputError)
    assert "ESC_MODEL_SUPPORTER" in told
