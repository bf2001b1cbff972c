"""Calibration: the moments, what is recovered from a made-up world, what validity measures."""

import json
from pathlib import Path

import numpy as np
import pytest

from esc_skills.pipeline.corpus import Dialogue, Utterance
from esc_skills.pipeline.labels import DialogueLabels, TurnLabels, load_labels
from esc_skills.simulator import calibrate as calibrating
from esc_skills.simulator import playing, recorded
from esc_skills.simulator.calibrate import calibrate, load_calibration
from esc_skills.simulator.change_values import fit_values
from esc_skills.simulator.emotion import EmotionState
from esc_skills.simulator.judgement import Rules, SeekerParams
from esc_skills.simulator.needs import Character
from esc_skills.simulator.playing import PARAMETERS, Settings, World, human_agent, play, settle, world
from esc_skills.simulator.recorded import MOMENTS, Runs, figures, goodbye_chances, ladder_of, load_runs, moments
from esc_skills.simulator.response import CHANGES, ResponseModel
from esc_skills.simulator.sentiment import sentiment
from esc_skills.simulator.surveys import read_drops
from esc_skills.simulator.validity import GROUPS, Case, groups, rated, rating_changes, scorer, sentiment_turns
from esc_skills.skills_bank.errors import CorpusError, InputError, ModelError
from esc_skills.skills_bank.taxonomy import ResponseChange, SeekerState, SupportAction, polarity

CHARACTERS = list(Character)


@pytest.fixture(scope="module")
def labels() -> list[DialogueLabels]:
    return [d for d in load_labels() if d.split != "valid"]


@pytest.fixture(scope="module")
def at(labels: list[DialogueLabels]) -> World:
    model = ResponseModel.load()
    goodbyes = np.array([0.5, 0.0, 0.0, 0.0, 0.7])
    return world(np.arange(96) % 8, np.arange(96) // 32, human_agent(labels, model), model, goodbyes)


def runs_of(changes: list[list[list[float]]], n: int = 2) -> Runs:
    array = np.array(changes)
    return Runs(np.arange(n), np.arange(n), array, np.zeros(array.shape, dtype=bool))


def settings(**more: float) -> Settings:
    theta = {"need": 2.0, "mood": 0.2, "carry": 1.3, "disposition": 0.2, "negative": -0.3, "avoidant": 0.1} | more
    return Settings.of(np.array([theta[name] for name in PARAMETERS]))


def test_finals_cap_and_stop_where_the_talk_does():
    nan = float("nan")
    runs = runs_of([[[10.0] * 7 + [nan] * 2, [-10.0] * 4 + [nan] * 5]])
    assert runs.finals.tolist() == [[100.0, 0.0]]
    told = figures(runs.changes[0], runs.finals[0])
    assert told["success"] == told["failure"] == 0.5
    assert told["negative"] == pytest.approx(4 / 11)


def test_the_ladder_weighs_runs_alike():
    nan = float("nan")
    rungs, shares = ladder_of(runs_of([[[5.0] * 9, [5.0] * 9], [[-5.0] + [nan] * 8, [5.0] + [nan] * 8]]))
    assert rungs.tolist() == [-5, 5]
    assert shares.tolist() == [0.25, 0.75]


def test_goodbyes_are_counted_by_the_state_after_the_turn():
    nan = float("nan")
    runs = runs_of([[[-10.0, -10.0, -10.0, -10.0] + [nan] * 5, [5.0] * 9]])
    runs.goodbye[0, 0, 3] = True
    chances = goodbye_chances(runs)
    assert chances[EmotionState.F] == 1 and chances[EmotionState.C] == 0 and chances[EmotionState.B] == 0


def test_character_drives_add_up_to_nothing():
    found = settings(negative=-0.6, avoidant=0.2).characters
    assert found.sum() == pytest.approx(0)
    by = dict(zip(CHARACTERS, found, strict=True))
    assert by[Character.AVOIDANT] - by[Character.PASSIVE] == pytest.approx(0.2)


def test_settled_cuts_give_the_recorded_shares(at: World):
    params = SeekerParams.load()
    shares = np.array([0.1, 0.3, 0.2, 0.4])
    rules = Rules.of(params)._replace(ladder=np.array([-10, -5, 5, 10]), cuts=np.array([-2.0, 0.0, 1.0]))
    _, played = settle(at, settings(), rules, shares)
    some = played.runs.changes[~np.isnan(played.runs.changes)]
    assert [float((some == rung).mean()) for rung in (-10, -5, 5, 10)] == pytest.approx(shares.tolist(), abs=0.015)


@pytest.mark.parametrize(
    ("name", "more"), [("need", {"need": 4.0}), ("carry", {"carry": 2.2}), ("negative", {"negative": -1.0})]
)
def test_each_lever_moves_its_moment(at: World, name: str, more: dict[str, float]):
    rules = Rules.of(SeekerParams.load())

    def at_(these: Settings) -> dict[str, float]:
        own = rules._replace(need=these.need, mood=these.mood, carry=these.carry)
        return dict(zip(MOMENTS, moments(play(at, these, own).runs), strict=True))

    before, after = at_(settings()), at_(settings(**more))
    moment = {"need": "needs", "carry": "persistence", "negative": "negative"}[name]
    if moment == "negative":
        assert after[moment] < before[moment] - 1
    else:
        assert after[moment] > before[moment]


def test_a_better_agent_ends_higher(at: World):
    rules = Rules.of(SeekerParams.load())
    finals = [play(at, settings(), rules, quality).runs.finals.mean() for quality in (-0.5, 0.0, 0.5)]
    assert finals == sorted(finals)


@pytest.mark.slow
def test_calibration_recovers_the_parameters_it_was_given(
    at: World, labels: list[DialogueLabels], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(playing, "COPIES", 4)
    monkeypatch.setattr(calibrating, "STARTS", calibrating.STARTS[:1])
    monkeypatch.setattr(recorded, "RESAMPLES", 100)
    params, model = SeekerParams.load(), ResponseModel.load()
    drops = {d.id: float(i % 5) for i, d in enumerate(labels[:200])}
    values, _, _ = fit_values(labels, drops, resamples=2)
    given = settings(need=1.5, carry=1.0, mood=0.3, disposition=0.25)
    rules = Rules.of(params)._replace(
        need=given.need, mood=given.mood, carry=given.carry, values=np.array([values[c].value for c in CHANGES])
    )
    whole = play(at, given, rules).runs
    made = Runs(whole.needs[:192], whole.characters[:192], whole.changes[:, :192], whole.goodbye[:, :192])
    found = calibrate((("one", "two"), made), labels, model, drops)
    assert found.params.carry.value == pytest.approx(1.0, abs=0.35)
    assert found.params.need.low - 0.3 < 1.5 < found.params.need.high + 0.3
    for fit in found.moments.values():
        assert fit.recorded.low - 0.3 < fit.simulated < fit.recorded.high + 0.3


def test_a_change_is_never_worth_the_opposite_of_its_polarity(labels: list[DialogueLabels]):
    drops = {d.id: float(i % 5) for i, d in enumerate(labels)}
    values, _, n = fit_values(labels, drops, resamples=5)
    assert n > 1000
    good = [values[c].value for c in ResponseChange if polarity(c) == "positive"]
    bad = [values[c].value for c in ResponseChange if polarity(c) == "negative"]
    assert min(good) >= max(bad)


def test_too_few_surveys_are_refused(labels: list[DialogueLabels]):
    with pytest.raises(InputError, match="too few"):
        fit_values(labels, {labels[0].id: 1.0})


def test_shipped_parameters_match_their_calibration():
    fit = load_calibration()
    for name, moment in fit.moments.items():
        assert moment.recorded.low <= moment.simulated <= moment.recorded.high, name
    for key, room in (("change", 0.1), ("negative", 0.02), ("zero", 0.004), ("final", 3.0), ("failure", 0.08)):
        assert fit.simulated[key] == pytest.approx(fit.recorded[key], abs=room)


def test_a_missing_calibration_names_the_command(tmp_path: Path):
    with pytest.raises(ModelError, match="simulator calibrate"):
        load_calibration(tmp_path / "calibration.json")


def test_recorded_runs_are_the_ones_of_the_reference(shared_dir: Path):
    names, runs = load_runs(shared_dir / "data" / "sage")
    place = next(i for i, name in enumerate(names) if "gpt-4.1" in name)
    assert runs.finals[place].mean() == pytest.approx(68.15)
    told = figures(runs.changes[place], runs.finals[place])
    assert (told["success"], told["failure"]) == (0.35, 0.13)
    assert told["change"] == pytest.approx(3.32, abs=0.01)


def test_one_run_is_too_few(tmp_path: Path):
    with pytest.raises(InputError, match="0 recorded SAGE runs"):
        load_runs(tmp_path)


def test_surveys_are_read_and_half_ones_left_out(tmp_path: Path):
    folder = tmp_path / "data" / "esconv"
    folder.mkdir(parents=True)
    scores = [{"initial_emotion_intensity": "5", "final_emotion_intensity": "2"}, {"initial_emotion_intensity": "4"}]
    lines = [json.dumps({"id": f"d{i}", "survey_score": {"seeker": s}}) for i, s in enumerate(scores)]
    (folder / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert read_drops(tmp_path, ["train"]) == {"d0": 3.0}
    with pytest.raises(CorpusError, match=r"valid\.jsonl"):
        read_drops(tmp_path, ["valid"])


# Validity


def composed() -> tuple[DialogueLabels, Dialogue]:
    """Two interventions between ratings 2, 4 and 3."""
    said = [("seeker", "I feel awful.", 2), ("supporter", "Tell me.", None), ("seeker", "That helps, thanks.", 4),
            ("supporter", "Try a walk.", None), ("seeker", "It is useless.", 3)]  # fmt: skip
    turns = []
    for i, (speaker, _, _) in enumerate(said):
        more = (
            {"state": SeekerState.SADNESS_AND_GRIEF}
            if speaker == "seeker"
            else {
                "actions": (list(SupportAction)[0 if i == 1 else 12],),
                "change": list(ResponseChange)[0 if i == 1 else 9],
            }
        )
        turns.append(TurnLabels(turn=i + 1, speaker=speaker, utterances=(i, i + 1), **more))  # pyright: ignore[reportArgumentType]
    labels = DialogueLabels(id="d", split="valid", scenarios=("loneliness",), turns=tuple(turns))  # pyright: ignore[reportArgumentType]
    utterances = tuple(Utterance(speaker=s, content=c, feedback=f) for s, c, f in said)  # pyright: ignore[reportArgumentType]
    return labels, Dialogue(id="d", source="ESConv", split="valid", utterances=utterances)


def test_the_scorer_that_knows_the_answer_says_relief_is_better_than_resistance():
    labels, _ = composed()
    rules = Rules.of(SeekerParams.load())
    told = scorer(ResponseModel.load(), rules, answer=True)(labels)
    assert told[1] > 0 > told[3]
    reply = scorer(ResponseModel.load(), rules, answer=False)(labels)
    assert set(reply) == {1, 3} and reply[1] != told[1]


def test_rating_changes_are_paired_with_the_turns_between():
    labels, dialogue = composed()
    changes = rating_changes(dialogue, labels)
    assert changes == ((0, 2, True), (2, 4, False))
    case = Case("d", "valid", {"x": {1: 2.0, 3: -1.0}}, {}, changes)
    assert rated([case], "x") == [(2.0, True), (-1.0, False)]
    assert case.mean("x") == 0.5


def test_the_lexicon_turns_round_after_a_negation():
    assert sentiment("I feel good and hopeful") > 0 > sentiment("I don't feel good, I feel awful")
    assert sentiment("") == 0
    labels, dialogue = composed()
    turns = sentiment_turns(dialogue)
    assert turns[1] > 0 > turns[3] and set(turns) == {i for i, t in enumerate(labels.turns) if t.actions}


def test_known_groups_end_in_an_order_that_makes_sense(labels: list[DialogueLabels]):
    drops = {d.id: float(i % 5) for i, d in enumerate(labels[:300])}
    found = {group.name: group for group in groups(labels[:400], labels[:60], SeekerParams.load(), drops)}
    assert set(found) == {"human action frequencies", *GROUPS}
    best = found["human action frequencies"].final
    assert best > found["only reassures"].final and best > found["only advises"].final
