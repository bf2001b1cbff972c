import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from esc_skills.server import __main__ as cli
from esc_skills.server import hosts
from esc_skills.server.chat import run
from esc_skills.server.doctor import examine
from esc_skills.server.loader import BankLoader
from esc_skills.server.terminal import console
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.taxonomy import SupportAction

WORRIED = "I am so anxious and scared about the exam deadline next week that I can't sleep."
CRISIS = "I want to kill myself tonight, I have the pills here."


@pytest.fixture
def command(monkeypatch, folder):
    """Run the command line on the sample bank with the encoder for tests."""
    monkeypatch.setenv("ESC_BANK_DIR", str(folder))
    monkeypatch.setattr(BankLoader, "encoder", lambda self: FakeEncoder())
    runner = CliRunner()

    def invoke(*arguments: str, stdin: str | None = None):
        return runner.invoke(cli.app, list(arguments), input=stdin)

    return invoke


def test_select_prints_the_choice(command):
    result = command("select", WORRIED)
    assert result.exit_code == 0
    assert "anxiety_and_fear" in result.stdout
    assert "steadying-before-a-deadline" in result.stdout


def test_select_as_json_is_the_answer_of_the_tool(command):
    result = command("select", WORRIED, "-k", "1", "--json", "--state", "resistance")
    answer = json.loads(result.stdout)
    assert answer["states_source"] == "caller"
    assert len(answer["skills"]) <= 1


def test_a_talk_is_read_from_stdin(command):
    talk = [
        {"role": "seeker", "content": "I tried that already, it is useless."},
        {"role": "supporter", "content": "You could try to write a list."},
        {"role": "seeker", "content": "Whatever. It doesn't help, I tried."},
    ]
    for form in (talk, {"messages": talk}):
        result = command("classify", "-", "--json", stdin=json.dumps(form))
        assert json.loads(result.stdout)["states"][0]["state"] == "resistance"
    plain = command("classify", "-", "--json", stdin=WORRIED)
    assert json.loads(plain.stdout)["states"][0]["state"] == "anxiety_and_fear"


def test_high_risk_shows_no_skill(command):
    result = command("select", CRISIS)
    assert "steadying" not in result.stdout
    assert not [action for action in SupportAction if action in result.stdout]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["select", ""], "no text"),
        (["select", "hi", "--state", "grumpy"], "not in the taxonomy"),
        (["classify", "-"], "no text"),
    ],
)
def test_a_bad_argument_is_an_error_that_names_it(command, arguments, message):
    result = command(*arguments, stdin="")
    assert result.exit_code != 0
    assert message in str(result.exception) + result.stderr


def test_help_lists_every_command(command):
    result = command("--help")
    for name in ("serve", "select", "classify", "chat", "doctor", "hosts", "bank", "build", "corpus"):
        assert name in result.stdout


def test_serving_does_not_import_what_only_training_needs():
    code = (
        "import sys; import esc_skills.server.__main__, esc_skills.server.app, esc_skills.server.loader;"
        "print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'torch', 'sklearn', 'sentence_transformers', 'lancedb', 'onnxruntime', 'anthropic', 'matplotlib', 'scipy'}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def held(selector, *lines: str) -> str:
    """Hold a talk and return what the terminal shows."""
    out = console()
    out.file = io.StringIO()
    run(selector, out, lines, echo=True)
    return out.file.getvalue()


@pytest.fixture
def selector(loader):
    return loader.load(None).selector


def test_chat_shows_state_risk_skill_and_next_actions(selector):
    shown = held(selector, WORRIED, "/s No wonder, with the exam so close.", "/why", "/quit", "never read")
    assert "anxiety_and_fear" in shown
    assert "risk" in shown
    assert "steadying-before-a-deadline" in shown
    assert "emotional_validation" in shown
    assert "closest" in shown
    assert "never read" not in shown


def test_chat_shows_the_fixed_text_alone_at_high_risk(selector):
    shown = held(selector, CRISIS, "/why")
    assert "steadying-before-a-deadline" not in shown
    assert "emotional_validation" not in shown
    assert "state" not in shown.split("/why")[0]
    answer = selector.select(CRISIS)
    assert " ".join(answer.risk.say.split())[:40] in " ".join(shown.split())


def test_chat_keeps_the_talk_and_can_forget_it(selector):
    crisis_then_new = held(selector, CRISIS, "/new", WORRIED)
    assert "steadying-before-a-deadline" in crisis_then_new
    kept = held(selector, CRISIS, WORRIED)
    assert "steadying-before-a-deadline" not in kept


def test_chat_reads_a_skill_and_survives_mistakes(selector):
    shown = held(selector, "/skill company-in-grief", "/skill hug", "/s", "/why", "", "/nonsense", "x" * 20_001)
    assert "Keep" in shown or "Grief" in shown
    assert "Known skills" in shown
    assert "type a line first" in shown
    assert "/quit" in shown
    assert "20,000" in shown


def test_chat_works_from_a_pipe(command):
    result = command("chat", stdin=f"{WORRIED}\n/quit\n")
    assert result.exit_code == 0
    assert f"> {WORRIED}" in " ".join(result.stdout.split())
    assert "steadying-before-a-deadline" in result.stdout


def test_doctor_is_well_on_a_good_bank(command):
    result = command("doctor", "--json")
    checks = json.loads(result.stdout)
    assert {"install", "settings", "encoder", "bank", "index", "hosts"} <= {check["name"] for check in checks}
    assert not [check for check in checks if check["status"] == "fail"]
    assert result.exit_code == 0


def test_doctor_names_a_broken_skill(command, folder):
    (folder / "company-in-grief" / "SKILL.md").write_text("nothing", encoding="utf-8")
    result = command("doctor")
    assert result.exit_code == 1
    assert "company-in-grief" in result.stdout


def test_doctor_names_a_broken_setting_and_an_unknown_one(settings, monkeypatch):
    monkeypatch.setenv("ESC_COLOUR", "red")
    broken = settings.model_copy(update={"region": "atlantis"})
    checks = examine(broken, BankLoader(settings, encoder=FakeEncoder()))
    assert any(check.status == "warn" and "ESC_COLOUR" in check.detail for check in checks)
    assert any(check.status == "fail" and "atlantis" in check.detail for check in checks)


def test_doctor_reads_the_configuration_of_hosts(monkeypatch, settings, tmp_path):
    home = tmp_path / "someone"
    (home / ".config" / "Claude").mkdir(parents=True)
    config = home / ".config" / "Claude" / "claude_desktop_config.json"
    config.write_text(json.dumps({"mcpServers": {"esc-skills": {"command": "/nowhere/esc-skills"}}}), encoding="utf-8")
    monkeypatch.setenv("HOME", str(home))
    checks = examine(settings, BankLoader(settings, encoder=FakeEncoder()))
    assert any(check.status == "fail" and "/nowhere/esc-skills" in check.detail for check in checks)


def test_the_blocks_for_hosts_hold_absolute_paths_and_the_settings():
    block = hosts.mcp_servers({"ESC_BANK_DIR": "/banks/mine", "PATH": "/bin"})["mcpServers"]["esc-skills"]
    assert Path(block["command"]).is_absolute()
    assert Path(block["command"]).is_file()
    assert block["env"] == {"ESC_BANK_DIR": "/banks/mine"}
    deerflow = hosts.deerflow({})["mcpServers"]["esc-skills"]
    assert (deerflow["type"], deerflow["enabled"], deerflow["args"]) == ("stdio", True, ["serve"])
    text = hosts.instructions("http://127.0.0.1:8765/mcp", with_token=True)
    for part in ("http://127.0.0.1:8765/mcp", "mcpServers", "DeerFlow", "Bearer"):
        assert part in text


def test_the_shipped_mcp_json_has_the_shape_of_a_host_block():
    root = Path(__file__).resolve().parents[2]
    block = json.loads((root / "mcp.json").read_text(encoding="utf-8"))["mcpServers"]["esc-skills"]
    assert block == {"command": "esc-skills", "args": ["serve"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--transport", "carrier-pigeon"], "carrier-pigeon"),
        (["serve", "--transport", "http", "--host", "0.0.0.0"], "ESC_TOKEN"),
    ],
)
def test_serve_refuses_what_it_cannot_do(folder, arguments, message):
    command = Path(sys.executable).with_name("esc-skills")
    ended = subprocess.run(
        [str(command), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "ESC_BANK_DIR": str(folder)},
    )
    assert ended.returncode != 0
    assert message in ended.stderr
    assert ended.stdout == ""
