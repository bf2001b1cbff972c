"""A local server that speaks the Messages API, for tests, figures and demos: real HTTP, answers from a function.

In a test (the server runs in a thread):

    with MessagesServer(lambda body: "an answer") as server:
        ...  # ESC_LLM_BASE_URL=server.url; afterwards look at server.requests

On the command line: `python tests/messages_server.py --port 8799 --latency 0.2 [--script file.py:function]`.

A script takes the request's body (a dict) and returns a text, a `Reply`, or anything JSON can carry (given as JSON
text). For a forced tool the text is handed back as the tool's input. Without a script a structured request gets the
smallest object that fits its schema, and a plain one gets "ok".
"""

import argparse
import asyncio
import importlib.util
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the server gives back: an answer, or an error where `status` is not 200."""

    text: str = ""
    status: int = 200
    stop_reason: str = "end_turn"
    delay: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    """Sent as it is instead of a message: for malformed JSON."""
    input_tokens: int = 100
    output_tokens: int = 20
    cache_read: int = 0
    cache_write: int = 0
    error: str = "scripted_error"
    message: str = "scripted"


Script = Callable[[Body], Any]


@dataclass
class Seen:
    """One request as it arrived."""

    path: str
    body: Body
    headers: dict[str, str]
    at: float
    status: int = 0


class MessagesServer:
    """The server; a context manager that serves from a thread on a free port."""

    def __init__(self, script: Script | None = None, *, latency: float = 0.0, port: int = 0, keep: bool = True) -> None:
        self.script: Script = script or default_script
        self.latency = latency
        self.keep = keep
        self.requests: list[Seen] = []
        """Every request to `/v1/messages`, in the order they arrived."""
        self.batches: dict[str, Body] = {}
        self.batch_polls = 1
        """How often a batch is still in progress when it is looked at."""
        self.in_flight = 0
        self.most_in_flight = 0
        self._port = port
        self._ids = count(1)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def answered(self) -> int:
        """How many requests got an answer that costs money."""
        return sum(seen.status == 200 for seen in self.requests)

    def __enter__(self) -> "MessagesServer":
        self._server = self._make()
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            if time.monotonic() > deadline:
                raise RuntimeError("The Messages server did not start within 10 s.")
            time.sleep(0.005)
        self._port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None and self._thread is not None
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)

    def serve(self) -> None:
        """Serve in the foreground until stopped; prints the address once it listens."""
        server = self._make()

        async def run() -> None:
            task = asyncio.create_task(server.serve())
            while not server.started and not task.done():
                await asyncio.sleep(0.005)
            if server.started:
                self._port = server.servers[0].sockets[0].getsockname()[1]
                print(self.url, flush=True)
            await task

        asyncio.run(run())

    def _make(self) -> uvicorn.Server:
        routes = [
            Route("/v1/messages", self._messages, methods=["POST"]),
            Route("/v1/messages/batches", self._create_batch, methods=["POST"]),
            Route("/v1/messages/batches", self._list_batches, methods=["GET"]),
            Route("/v1/messages/batches/{id}", self._batch, methods=["GET"]),
            Route("/v1/messages/batches/{id}/results", self._results, methods=["GET"]),
            Route("/seen", self._seen, methods=["GET"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes),
            host="127.0.0.1",
            port=self._port,
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
        )
        return uvicorn.Server(config)

    async def _messages(self, request: Request) -> Response:
        body = json.loads(await request.body())
        seen = Seen(request.url.path, body, dict(request.headers), time.monotonic())
        if self.keep:
            self.requests.append(seen)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            reply = as_reply(self.script(body))
            if self.latency or reply.delay:
                await asyncio.sleep(reply.delay or self.latency)
        finally:
            self.in_flight -= 1
        seen.status = reply.status
        if reply.raw is not None:
            return Response(reply.raw, reply.status, reply.headers, "application/json")
        if reply.status != 200:
            error = {"type": "error", "error": {"type": reply.error, "message": reply.message}}
            return JSONResponse(error, reply.status, reply.headers)
        return JSONResponse(self._message(body, reply), headers=reply.headers)

    def _message(self, body: Body, reply: Reply) -> Body:
        forced = body.get("tool_choice", {}).get("name")
        block: Body = {"type": "text", "text": reply.text}
        stop = reply.stop_reason
        if forced:
            block = {"type": "tool_use", "id": "toolu_1", "name": forced, "input": _tool_input(reply.text)}
            stop = "tool_use" if stop == "end_turn" else stop
        return {
            "id": f"msg_{next(self._ids)}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [block],
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {
                "input_tokens": reply.input_tokens,
                "output_tokens": reply.output_tokens,
                "cache_read_input_tokens": reply.cache_read,
                "cache_creation_input_tokens": reply.cache_write,
            },
        }

    async def _create_batch(self, request: Request) -> Response:
        body = json.loads(await request.body())
        made = f"msgbatch_{next(self._ids)}"
        self.batches[made] = {"requests": body["requests"], "polls": self.batch_polls, "at": time.time()}
        return JSONResponse(self._batch_view(made))

    async def _list_batches(self, request: Request) -> Response:
        views = [self._batch_view(key) for key in reversed(self.batches)]
        ends = {"first_id": views[0]["id"], "last_id": views[-1]["id"]} if views else {}
        return JSONResponse({"data": views, "has_more": False, **ends})

    async def _batch(self, request: Request) -> Response:
        batch = self.batches.get(request.path_params["id"])
        if batch is None:
            return JSONResponse({"type": "error", "error": {"type": "not_found_error", "message": "no batch"}}, 404)
        batch["polls"] -= 1
        return JSONResponse(self._batch_view(request.path_params["id"]))

    async def _results(self, request: Request) -> Response:
        batch = self.batches[request.path_params["id"]]
        lines = [self._batch_line(each) for each in reversed(batch["requests"])]
        return Response("\n".join(lines) + "\n", media_type="application/x-jsonl")

    def _batch_line(self, each: Body) -> str:
        reply = as_reply(self.script(each["params"]))
        result: Body = {"type": "succeeded", "message": self._message(each["params"], reply)}
        if reply.status != 200:
            error = {"type": "error", "error": {"type": reply.error, "message": reply.message}}
            result = {"type": "errored", "error": error}
        return json.dumps({"custom_id": each["custom_id"], "result": result})

    def _batch_view(self, key: str) -> Body:
        batch = self.batches[key]
        ended, size = batch["polls"] < 0, len(batch["requests"])
        return {
            "id": key,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {
                "processing": 0 if ended else size,
                "succeeded": size if ended else 0,
                "errored": 0,
                "canceled": 0,
                "expired": 0,
            },
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(batch["at"])),
            "expires_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(batch["at"] + 86400)),
            "results_url": f"{self.url}/v1/messages/batches/{key}/results" if ended else None,
        }

    async def _seen(self, _: Request) -> Response:
        """What arrived, for a server in another process."""
        return JSONResponse([{"body": seen.body, "status": seen.status} for seen in self.requests])


def as_reply(answer: Any) -> Reply:
    """Return a script's answer as a `Reply`."""
    if isinstance(answer, Reply):
        return answer
    return Reply(answer if isinstance(answer, str) else json.dumps(answer))


def schema_of(body: Body) -> Body | None:
    """Return the JSON schema a request asks for, however it asks (not where the schema stands in the prompt)."""
    if "output_config" in body:
        return body["output_config"]["format"]["schema"]
    return body["tools"][0]["input_schema"] if body.get("tools") else None


def default_script(body: Body) -> Any:
    """Answer "ok", or with the smallest object that fits the schema."""
    schema = schema_of(body)
    return "ok" if schema is None else example_of(schema, schema)


def example_of(schema: Body, root: Body) -> Any:
    """Return the smallest value that fits `schema`; `root` holds the definitions."""
    if "$ref" in schema:
        return example_of(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "allOf"):
        if key in schema:
            return example_of(schema[key][0], root)
    kind = schema.get("type")
    if kind == "object":
        required = schema.get("required", ())
        return {name: example_of(schema["properties"][name], root) for name in required}
    if kind == "array":
        return [example_of(schema["items"], root)] * schema.get("minItems", 0)
    return {"string": "x" * schema.get("minLength", 1), "integer": schema.get("minimum", 0), "boolean": False}.get(
        kind, schema.get("minimum", 0) if kind == "number" else None
    )


def _tool_input(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"text": text}


def _load(script: str) -> Script:
    path, _, name = script.partition(":")
    spec = importlib.util.spec_from_file_location("messages_script", path)
    assert spec is not None and spec.loader is not None, f"{path} is no Python file"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name or "script")


def main() -> None:
    """Serve from the command line."""
    parser = argparse.ArgumentParser(description="A local server that speaks the Messages API.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="Seconds before each answer.")
    parser.add_argument("--script", help="file.py:function, which takes the request body and returns the answer.")
    parser.add_argument("--forget", action="store_true", help="Do not keep the requests (figures, long demos).")
    given = parser.parse_args()
    script = _load(given.script) if given.script else None
    MessagesServer(script, latency=given.latency, port=given.port, keep=not given.forget).serve()


if __name__ == "__main__":
    main()
