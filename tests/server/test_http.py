import httpx2 as httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from esc_skills.server.app import create_server
from esc_skills.server.http import BodyLimit, HttpLimits, RateLimit, check_binding, http_app, is_loopback
from esc_skills.skills_bank.errors import InputError

TOKEN = "a-token-of-more-than-16-characters"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


def plain_app(*middleware) -> Starlette:
    async def echo(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    return Starlette(
        routes=[Route("/mcp", echo, methods=["POST"]), Route("/health", echo)], middleware=list(middleware)
    )


def client(app) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8765")


async def test_a_body_within_the_limit_passes_and_one_over_it_is_refused():
    async with client(BodyLimit(plain_app(), max_bytes=100)) as http:
        assert (await http.post("/mcp", content=b"x" * 100)).text == "100"
        refused = await http.post("/mcp", content=b"x" * 101)
    assert refused.status_code == 413
    assert "100 bytes" in refused.json()["error"]


async def test_a_body_without_announced_length_is_counted():
    async def chunks():
        for _ in range(20):
            yield b"x" * 10

    async with client(BodyLimit(plain_app(), max_bytes=100)) as http:
        assert (await http.post("/mcp", content=chunks())).status_code == 413


def test_the_bucket_gives_a_burst_then_the_rate_and_refills():
    now = [0.0]
    limit = RateLimit(plain_app(), rate=2, burst=3, clock=lambda: now[0])
    assert [limit.take("a") for _ in range(3)] == [0, 0, 0]
    assert limit.take("a") == pytest.approx(0.5)
    assert limit.take("b") == 0  # every address has a bucket of its own
    now[0] = 0.5
    assert limit.take("a") == 0
    assert limit.take("a") > 0
    now[0] = 100
    assert [limit.take("a") for _ in range(3)] == [0, 0, 0]
    assert limit.take("a") > 0  # no more than the burst is saved up


async def test_over_the_rate_the_answer_is_429_with_retry_after_and_health_stays_free():
    app = RateLimit(plain_app(), rate=0.1, burst=1, clock=lambda: 0.0)
    async with client(app) as http:
        assert (await http.post("/mcp")).status_code == 200
        refused = await http.post("/mcp")
        assert (await http.get("/health")).status_code == 200
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "10"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "localhost"])
def test_loopback_needs_no_token(host):
    assert is_loopback(host)
    check_binding(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.org", ""])
def test_any_other_address_needs_a_token(host):
    with pytest.raises(InputError, match="ESC_TOKEN"):
        check_binding(host, None)
    check_binding(host, TOKEN)


def test_a_short_token_is_refused():
    with pytest.raises(InputError, match="16 characters"):
        check_binding("127.0.0.1", "secret")


async def test_the_token_is_asked_for_and_taken(live):
    app = http_app(create_server(live), live, host="0.0.0.0", token=TOKEN)
    async with app.router.lifespan_context(app), client(app) as http:
        assert (await http.post("/mcp", json=INITIALIZE, headers=ACCEPT)).status_code == 401
        wrong = await http.post("/mcp", json=INITIALIZE, headers={**ACCEPT, "Authorization": "Bearer wrong" + TOKEN})
        assert wrong.status_code == 401
        right = await http.post("/mcp", json=INITIALIZE, headers={**ACCEPT, "Authorization": f"Bearer {TOKEN}"})
        assert right.status_code == 200
        await live.view()
        health = await http.get("/health")
        assert health.json() == {"status": "ok"}  # no details for those without the token


async def test_a_foreign_host_or_origin_is_refused(live):
    app = http_app(create_server(live), live)
    async with app.router.lifespan_context(app), client(app) as http:
        evil = await http.post("/mcp", json=INITIALIZE, headers={**ACCEPT, "Host": "evil.example:8765"})
        assert evil.status_code == 421
        foreign = await http.post("/mcp", json=INITIALIZE, headers={**ACCEPT, "Origin": "http://evil.example"})
        assert foreign.status_code == 403
        assert (await http.post("/mcp", json=INITIALIZE, headers=ACCEPT)).status_code == 200


async def test_an_oversized_request_to_the_real_app_is_413(live):
    app = http_app(create_server(live), live, limits=HttpLimits(max_body_bytes=2000))
    async with app.router.lifespan_context(app), client(app) as http:
        assert (await http.post("/mcp", content=b"x" * 2001, headers=ACCEPT)).status_code == 413


async def test_health_tells_version_and_skills_on_loopback(live):
    app = http_app(create_server(live), live)
    async with app.router.lifespan_context(app), client(app) as http:
        view = await live.view()
        assert (await http.get("/health")).json() == {
            "status": "ok",
            "bank_version": view.bank.version,
            "skills": 3,
            "problems": 0,
        }
