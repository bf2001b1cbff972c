"""The report as text; how it looks in a browser is in `test_report_browser.py`."""

import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from esc_skills.evolve.charts import Axis, Step, bar, curve
from esc_skills.evolve.generation import report as report_of_talk
from esc_skills.evolve.heat import NO_SKILL, Cell, heat_of, heatmap
from esc_skills.evolve.llm_analyzer import told
from esc_skills.evolve.markup import Html, el, prose, table
from esc_skills.evolve.masks import MASK, Masks
from esc_skills.evolve.models import Veto
from esc_skills.evolve.record import EvolveRun, Outcome
from esc_skills.evolve.report import diff_text, report_html, show_text
from esc_skills.evolve.wordings import FATES, chance, fate_of, lasted, money
from esc_skills.simulator.resample import Estimate
from esc_skills.skills_bank.errors import InputError
from esc_skills.skills_bank.taxonomy import Scenario

from .composed_run import HOSTILE, SAID, THOUGHT, compose_run

VOID = {"meta", "br"}
WITH_ADDRESS = {"src", "srcset", "data", "poster", "action", "formaction", "background", "ping", "xlink:href"}


class Page(HTMLParser):
    """What is on a page; fails where an element is not closed where it was opened."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.said = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.said += data

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]

    def inside(self, name: str, html: str) -> list[str]:
        return re.findall(rf"<{name}\b.*?</{name}>", html, re.DOTALL)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> EvolveRun:
    return compose_run(tmp_path_factory.mktemp("jobs"))


@pytest.fixture(scope="module")
def html(run: EvolveRun) -> str:
    return report_html(run)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


# --- one file, whatever stands in the texts ---------------------------------------------------------------------------


def test_the_page_fetches_and_runs_nothing(page: Page, html: str):
    assert not page.all("script", "link", "img", "iframe", "object", "embed", "form", "base", "video", "audio")
    for tag, attributes in page.tags:
        assert not WITH_ADDRESS & attributes.keys(), tag
        assert not [name for name in attributes if name.startswith("on")], tag
    assert all((link["href"] or "").startswith("#") for link in page.all("a"))
    style = page.inside("style", html)
    assert len(style) == 1 and "url(" not in style[0] and "@import" not in style[0] and "@font-face" not in style[0]
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith("default-src 'none'")


def test_a_hostile_text_is_shown_and_does_nothing(page: Page, html: str):
    shown = HOSTILE.replace("\u202e", "[U+202E]").replace("\x00", "[U+0000]")
    # In the title, the reason, what the screen found, what was changed, the diff and the prompt.
    assert page.said.count(shown) == 6
    assert "\u202e" not in html and "\x00" not in html
    assert html.split("<title>")[1].startswith("Evolution of bank S0: evolve-2026")


def test_nothing_that_a_seeker_said_or_thought_is_in_it(run: EvolveRun, html: str):
    sent = run.attempt("refine-meeting-hopelessness.2").candidate
    assert sent and SAID in (sent.prompt or "") and any(SAID in finding.what for finding in run.findings() or ())
    assert SAID not in html and THOUGHT not in html and "Seeker: No." not in html
    assert f"Seeker: {MASK}" in html and "Supporter: What is it like?" in html


def test_the_same_run_gives_the_same_page(run: EvolveRun, html: str):
    assert report_html(EvolveRun(run.folder)) == html


# --- what is on it ----------------------------------------------------------------------------------------------------


def test_headings_are_in_order_and_sections_are_named(page: Page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(page.all("main")) == len(page.all("header")) == len(page.all("nav")) == len(page.all("footer")) == 1


def test_links_lead_somewhere_and_ids_are_unique(page: Page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(link["href"] or "")[1:] for link in page.all("a")} <= set(ids)


def test_tables_and_drawings_say_what_they_are(page: Page, html: str):
    tables, drawings = page.inside("table", html), page.inside("svg", html)
    assert len(tables) > 20 and all("<caption>" in one and 'scope="col"' in one for one in tables)
    assert all('scope="row"' in one for one in tables)
    assert len(drawings) == 10  # the curve, eight candidates that were simulated, and their scale
    assert all("<title>" in one and "<desc>" in one and 'role="img"' in one for one in drawings)


def test_every_attempt_stands_with_its_fate(run: EvolveRun, page: Page, html: str):
    joint, shown = run.joint(), html.split('id="candidates"')[1]
    attempts = run.all_attempts()
    assert len(attempts) == 12
    for attempt in attempts:
        block = shown.split(f'id="candidate-{attempt.id}"')[1].split("</summary>")[0]
        assert FATES[fate_of(attempt, joint)][1] in block
    assert set(FATES) - {fate_of(one, joint) for one in attempts} == {"accept"}
    assert "Unfolding mixed feelings: shorter (refine-unfolding-mixed-feelings; 43 replies)" in page.said


def test_the_counts_at_the_top_are_those_of_the_run(html: str):
    by_name = {name: int(n) for n, name in re.findall(r"<li><b>(\d+)</b> <span>([^<]+)</span></li>", html)}
    assert by_name == {
        "findings": 40,
        "proposals": 10,
        "candidates": 11,
        "accepted and kept": 2,
        "accepted, dropped with the others": 1,
        "rejected": 1,
        "rejected by a veto": 1,
        "indecisive": 3,
        "refused by the screen": 2,
        "no text came about": 1,
        "under way": 1,
    }


def test_figures_of_a_verdict_are_told_as_they_are(run: EvolveRun, html: str):
    verdict = run.attempt("refine-meeting-hopelessness.2").verdict
    assert verdict and verdict.effect
    value, low, high = verdict.effect.difference
    block = html.split('id="candidate-refine-meeting-hopelessness.2"')[1].split("</details></details>")[0]
    assert f"{value:+.1f} ({low:+.1f} to {high:+.1f})" in block and f"{verdict.effect.old:.1f}" in block
    pair = verdict.pairs[0]
    assert f"{pair.old} \u2192 {pair.new}" in block
    assert "<ins>+2. **Emotional validation**" in block and "<del>-1. **Reassurance**" in block


def test_findings_come_with_the_commands_that_show_them(run: EvolveRun, page: Page):
    findings = run.findings()
    assert findings
    cite = findings[0].cites[0]
    assert f"RUN={run.folder}/trials/0a1b2c" in page.said
    assert f'esc-skills replay "$RUN" {cite.profile}' in page.said
    assert "--repeat 1" in page.said


def test_cost_split_and_seeds_are_there(run: EvolveRun, page: Page):
    split, sealed = run.split(), run.sealed()
    assert split and sealed
    assert all(digest in page.said for digest in split.hashes().values())
    assert "$0.45" in page.said and "$0.46" in page.said and "8 min 32 s" in page.said
    assert "declared error rate 0.05" in page.said and str(sealed.seed) in page.said


def test_a_committed_result_tells_how_to_roll_back(run: EvolveRun, tmp_path: Path):
    run = EvolveRun(shutil.copytree(run.folder, tmp_path / run.id))
    outcome = run.outcome()
    assert outcome
    run.write("outcome.json", outcome.model_copy(update={"version": "v1-f0f0", "told": "Committed as v1-f0f0."}))
    said = Page(report_html(run)).said
    assert "esc-skills bank rollback S0" in said and "esc-skills bank diff S0 v1-f0f0" in said
    assert "in version v1-f0f0" in said and "bank commit" not in said


def test_a_run_that_has_only_begun_has_a_report(run: EvolveRun, tmp_path: Path):
    begun = EvolveRun(tmp_path / run.id)
    text = (run.folder / "job.json").read_text(encoding="utf-8").replace('"completed"', '"cancelled"')
    begun.write_text("job.json", text)
    said = Page(report_html(begun)).said
    assert "Not finished." in said and "The run is cancelled" in said and "No candidate was made yet." in said
    assert "cancelled" in show_text(begun)


def test_a_run_that_found_nothing_says_so(run: EvolveRun, tmp_path: Path):
    idle = EvolveRun(tmp_path / run.id)
    idle.write_text("job.json", (run.folder / "job.json").read_text(encoding="utf-8"))
    idle.write("findings.json", ())
    idle.write("outcome.json", Outcome(parent="S0", parent_hash="5e" * 32, kept=(), told="The bank is as it was."))
    said = Page(report_html(idle)).said
    assert "No change: nothing was found to help" in said and "bank rollback" not in said


# --- parts ------------------------------------------------------------------------------------------------------------


def test_text_is_escaped_and_elements_are_not():
    made = el("p", "<b>", el("b", "&"), None, ["x", 3], title="\"'>", hidden=True, open=False, class_="a")
    assert made == '<p title="&quot;&#x27;&gt;" hidden class="a">&lt;b&gt;<b>&amp;</b>x3</p>'
    assert prose("say `x < y` now")[1] == "<code>x &lt; y</code>" and prose("one ` only") == ["one ` only"]


def test_a_table_of_cards_names_its_cells():
    made = table("Caption", ("a", "b"), [("1", "2")], cards=True, numbers=(1,))
    assert isinstance(made, Html) and 'data-label="b"' in made and made.count('role="row"') == 2


def test_masks_take_the_longest_words_first_and_leave_short_ones(run: EvolveRun):
    talk = next(iter(run.baseline_talks()))
    turns = tuple(
        turn.model_copy(update={"seeker": said, "appraisal": None})
        for turn, said in zip(talk.turns, ("Yes.", "I do not know at all", "I do not know"), strict=False)
    )
    masks = Masks([talk.model_copy(update={"turns": turns, "opening": ""})])
    assert masks.quotes("Yes. I do not know at all, I do not know!") == f"Yes. {MASK}, {MASK}!"
    assert masks.prompt("Seeker: hm\n> Seeker: hm\n**User**: hm\nSupporter: hm") == (
        f"Seeker: {MASK}\n> Seeker: {MASK}\n**User**: {MASK}\nSupporter: hm"
    )


def test_a_talk_as_the_generator_is_shown_it_is_masked(run: EvolveRun):
    talk = next(iter(run.baseline_talks()))
    written, reported = told(talk), report_of_talk(talk)
    assert SAID in written and THOUGHT in written and THOUGHT in reported
    strange = Masks([]).prompt(written)  # a talk that the run did not hold
    assert SAID not in strange and THOUGHT not in strange and "Supporter: What is it like?" in strange
    assert THOUGHT not in Masks([talk]).prompt(reported)


def test_the_heatmap_counts_scored_replies(run: EvolveRun):
    talk = next(iter(run.baseline_talks())).model_copy(update={"scenario": Scenario("loneliness")})
    turns = [
        talk.turns[0].model_copy(update={"followed": name, "change": c}) for name, c in (("a", 3), ("a", -1), (None, 4))
    ]
    unscored = talk.turns[0].model_copy(update={"followed": "a", "change": None})
    cells = heat_of([talk.model_copy(update={"turns": (*turns, unscored)})])
    assert cells == {("a", "loneliness"): Cell(2, 2), (NO_SKILL, "loneliness"): Cell(1, 4)}
    drawn = heatmap({**cells, ("b", None): Cell(20, -60)})
    assert "<b>+1.0</b><small>2</small>" in drawn and "<b>-3.0</b><small>20</small>" in drawn
    assert re.search(r'class="p2 few"><b>\+1\.0', drawn) and re.search(r'class="n3"><b>-3\.0', drawn)
    assert drawn.index(">b<") < drawn.index(">a<") < drawn.index(NO_SKILL)


def test_scales_hold_what_they_show():
    axis = Axis.over([-3.2, 7.9])
    assert (axis.low, axis.high, axis.ticks()) == (-4, 8, [-4, -2, 0, 2, 4, 6, 8])
    assert axis.at(-4) == "2.00%" and axis.at(8) == "98.00%" and axis.at(2) == "50.00%"
    same = Axis.over([0.0, 0.0])  # a candidate that changes nothing
    assert same.at(0) == "2.00%" and same.high > 0
    row = bar("x", Estimate(2.0, -1.0, 5.0), Estimate(0.0, -2.0, 2.0), axis, "reject")
    assert 'cx="50.00%"' in row and 'x1="26.00%"' in row and 'x2="74.00%"' in row
    assert '<rect x="18.00%"' in row and 'width="32.00%"' in row


def test_the_curve_marks_old_and_new_of_each_step():
    drawn = curve([Step("start", "baseline", None, 40.0, 38.0, 42.0), Step("1", "x.1", 41.0, 46.0, 43.0, 49.0)], "told")
    assert drawn.count("dot new") == 2 and drawn.count("dot old") == 1 and "B 40" in drawn
    assert not re.search(r">41<|>39<", drawn)  # too near to where a state begins
    heights = [float(y) for y in re.findall(r'<circle cx="[\d.]+%" cy="([\d.]+)" r="5"', drawn)]
    assert heights[0] > heights[1]  # higher emotion stands higher


def test_words_for_figures():
    assert chance(0.0312) == "0.031" and chance(0.00004) == "4e-05"
    assert [money(usd) for usd in (None, 0.0, 0.004, 1234.5)] == ["price unknown", "$0.00", "$0.0040", "$1,234.50"]
    assert [lasted(s) for s in (3.94, 125, 7300)] == ["3.9 s", "2 min 5 s", "2 h 1 min"]


def test_a_veto_is_told_apart_from_a_loss(run: EvolveRun):
    attempt = run.attempt("refine-meeting-hopelessness.1")
    assert attempt.verdict and fate_of(attempt, None) == "reject"
    vetoed = attempt.verdict.model_copy(update={"vetoes": (Veto(rule="risk", reason="Late."),)})
    assert fate_of(attempt.model_copy(update={"verdict": vetoed}), None) == "vetoed"


# --- the terminal -----------------------------------------------------------------------------------------------------


def test_show_names_every_attempt_with_its_verdict(run: EvolveRun):
    shown = show_text(run)
    for attempt in run.all_attempts():
        assert attempt.id in shown
    assert "Sealed part: +" in shown and "Noise floor (A/A)" in shown and "Time: 11 min 58 s." in shown
    assert "\x00" not in shown and "\u202e" not in shown and "\x1b" not in shown


def test_diff_shows_the_text_under_its_verdict(run: EvolveRun):
    shown = diff_text(run, "refine-meeting-hopelessness")
    assert shown.startswith("# refine-meeting-hopelessness.2: \u2713 accepted and kept\n# Better by 7.4")
    assert "\n+2. **Emotional validation**" in shown and "\n-1. **Reassurance**" in shown
    assert "# No text differs" in diff_text(run, "refine-easing-self-blame.1")


def test_an_unknown_candidate_is_named_with_those_there_are(run: EvolveRun):
    with pytest.raises(InputError, match=r"No candidate 'nobody'.*refine-meeting-hopelessness\.1"):
        diff_text(run, "nobody")
