"""Every reviewed pattern against its own lines; normal form; time."""

import time

import pytest

from esc_skills.skills_bank.risk_patterns import Pattern, load_patterns, normalise, sentences

PATTERNS = load_patterns()


@pytest.mark.parametrize("pattern", PATTERNS.patterns, ids=lambda pattern: pattern.id)
def test_a_pattern_finds_its_lines_and_leaves_the_others(pattern: Pattern):
    for line in pattern.hit:
        assert (pattern.id, pattern.level) in {(s.id, s.strength) for s in PATTERNS.signals(line)}, line
    for line in pattern.miss:
        assert (pattern.id, pattern.level) not in {(s.id, s.strength) for s in PATTERNS.signals(line)}, line


@pytest.mark.parametrize("ask", PATTERNS.asks, ids=lambda ask: ask.id)
def test_direct_questions(ask):
    for line in ask.hit:
        assert PATTERNS.asked(line) == ask, line
    for line in ask.miss:
        assert PATTERNS.asked(line) != ask, line


@pytest.mark.parametrize("reply", PATTERNS.replies, ids=lambda reply: reply.id)
def test_replies(reply):
    for line in reply.hit:
        assert PATTERNS.reply(line) == reply.id, line
    for line in reply.miss:
        assert PATTERNS.reply(line) != reply.id, line


def test_every_guard_exists_is_used_and_compiles():
    used = {name for pattern in PATTERNS.patterns for name in pattern.guards}
    assert used <= set(PATTERNS.guard_by_id)
    for guard in PATTERNS.guards:
        assert guard.regex.pattern
        assert guard.exception is None or guard.exception.pattern


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("I’m gonna… stop", "i am going to , stop"),
        ("Can't, won't", "can not , will not"),
        ("sooooo tired", "soo tired"),
        ("k!ll su1cide", "kill suicide"),
    ],
)
def test_normal_form(text: str, plain: str):
    assert normalise(text.replace("’", "'")) == plain


def test_a_phrase_across_a_cut_is_whole_in_one_piece():
    text = "word " * 115 + "i want to die " + "word " * 100
    assert any("i want to die" in plain for _, plain in sentences(text))


@pytest.mark.parametrize(
    "piece",
    [
        "i want to die ",
        "he she they my mom ",
        'my "i said ',
        "i am\n",
        "a",
        "want to never not wake if i was gone my brother is the end of ",
        ". , ; ! ",
    ],
)
def test_hostile_text_is_read_in_linear_time(piece: str):
    text = (piece * 20_000)[:20_000]
    PATTERNS.signals(piece)
    begin = time.process_time()
    PATTERNS.signals(text)
    # 0.05 to 0.2 s on one idle core; a quadratic expression would take tens of seconds.
    assert time.process_time() - begin < 1.0


def test_twice_the_text_takes_about_twice_the_time():
    def seconds(size: int) -> float:
        text = ("he she they my mom would never not be better off without " * size)[: size * 20]
        begin = time.process_time()
        PATTERNS.signals(text)
        return time.process_time() - begin

    seconds(50)
    assert seconds(1000) < 8 * max(seconds(250), 0.01)
