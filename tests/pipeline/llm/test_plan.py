"""The dry run, and the prices behind it."""

import pytest

from esc_skills.pipeline.llm.budget import Caps
from esc_skills.pipeline.llm.call import Call
from esc_skills.pipeline.llm.plan import make_plan
from esc_skills.pipeline.llm.prices import Price, Prices, load_prices
from esc_skills.pipeline.llm.tokens import Tokens, billed_tokens, expected_tokens
from esc_skills.skills_bank.errors import InputError

from .conftest import Mood, make_request

PRICES = Prices([Price(model="test-*", input=1, output=10, cache_write=2, cache_read=0.1)])


def requests(count: int, **given):
    return [(make_request(f"line {i}", system="s" * 9000, max_tokens=1000, **given), Mood) for i in range(count)]


def test_the_plan_counts_calls_tokens_and_cost():
    plan = make_plan(requests(10), PRICES)
    (line,) = plan.lines
    call = Call.of(*requests(1)[0])
    assert (line.calls, line.known, plan.calls) == (10, 0, 10)
    assert line.output == (1000, 10_000)
    assert line.input.high == 10 * call.expected_input().high
    fresh = call.expected_input().low - 2000
    low = (10 * fresh * 1 + 2000 * 2 + 9 * 2000 * 0.1 + 1000 * 10) / 1e6
    assert line.usd is not None and line.usd[0] == pytest.approx(low)
    assert line.usd[1] == pytest.approx((line.input.high * 2 + 10_000 * 10) / 1e6)
    assert make_plan(requests(10), PRICES, batch=True).usd == pytest.approx((line.usd[0] / 2, line.usd[1] / 2))


async def test_what_is_known_is_not_planned_and_a_real_run_stays_in_the_range(door, server, messages):
    server.script = lambda body: messages.Reply(
        '{"mood": "calm", "strength": 1}', input_tokens=60, output_tokens=300, cache_read=2000
    )
    async with door() as client:
        before = make_plan(requests(4), PRICES, journal=client.journal)
        for request, schema in requests(3):
            await client.structured(request, schema)
        after = make_plan([*requests(4), *requests(4)], PRICES, journal=client.journal)
        spent = client.journal.spent()
        assert before.usd is not None
        assert before.usd[0] <= 4 / 3 * PRICES.known("test-model").cost(Tokens(180, 900, 6000)) <= before.usd[1]
        assert before.tokens.low <= 4 / 3 * spent.tokens <= before.tokens.high
    assert (before.calls, after.calls, after.lines[0].known) == (4, 1, 7)


def test_an_unknown_price_is_said_and_is_an_error_beside_a_cap_on_money():
    plan = make_plan(requests(2, model="my-own"), PRICES)
    assert plan.usd is None and "price unknown" in plan.text() and "cost unknown" in plan.text()
    with pytest.raises(InputError, match="'my-own' is unknown"):
        make_plan(requests(2, model="my-own"), PRICES, caps=Caps(usd=1))


def test_the_plan_names_the_caps_it_may_reach():
    text = make_plan(requests(10), PRICES).text(Caps(calls=5, tokens=10**9, usd=0.01))
    assert "may reach the cap of calls: up to 10, cap 5" in text
    assert "may reach the cap of money" in text and "tokens: up to" not in text


def test_an_empty_plan():
    assert make_plan([], PRICES).text() == "in all: 0 calls to send, 0 to 0 tokens, cost $0.00 to $0.00"


@pytest.mark.parametrize(
    ("model", "input_", "output"),
    [
        ("claude-opus-4-1-20250805", 15, 75),
        ("claude-opus-4-7", 5, 25),
        ("claude-opus-5-5", 4, 20),
        ("claude-sonnet-5", 2, 10),
        ("claude-sonnet-4-6", 3, 15),
        ("claude-haiku-4-5-20251001", 1, 5),
    ],
)
def test_shipped_prices(model, input_, output):
    price = load_prices().of(model)
    assert price is not None and (price.input, price.output) == (input_, output)


@pytest.mark.parametrize("model", ["gpt-oss:120b", "claude-opus-6", "claude-opus-5-7", "qwen3.7-plus"])
def test_a_model_without_a_stated_price_is_unknown(model):
    assert load_prices().of(model) is None


def test_the_users_prices_come_first(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(
        'prices: [{model: "claude-sonnet-5", input: 1, output: 2}, {model: "*", input: 0, output: 0}]', "utf-8"
    )
    prices = load_prices(own)
    assert prices.known("claude-sonnet-5").output == 2
    assert prices.known("anything").cost(Tokens(10**6, 10**6)) == 0


@pytest.mark.parametrize(
    "text", ["- 1", "prices: {a: 1}", "prices: [{model: x}]", "prices: [", "prices: [{model: x, input: -1, output: 1}]"]
)
def test_a_broken_file_of_prices(tmp_path, text):
    own = tmp_path / "own.yaml"
    own.write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"own\.yaml is not in the form"):
        load_prices(own)
    with pytest.raises(InputError, match="cannot be read"):
        load_prices(tmp_path / "none.yaml")


def test_expected_tokens_hold_for_other_scripts_too():
    assert expected_tokens("") == (0, 0)
    english, chinese = "a quiet evening by the sea " * 40, "安静的海边夜晚" * 40
    assert expected_tokens(english).low < len(english) / 4 < expected_tokens(english).high
    assert expected_tokens(chinese).high >= len(chinese)


def test_usage_that_is_not_reported():
    assert billed_tokens(None) is None and billed_tokens({"output_tokens": 3}) is None
    assert billed_tokens({"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": None}) == (1, 2, 0, 0)
