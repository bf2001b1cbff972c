"""`corpus fetch` against a local HTTP server: whole and readable files, or what was there before."""

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from esc_skills.pipeline import fetch as fetch_module
from esc_skills.pipeline.fetch import FILES, fetch
from esc_skills.skills_bank.errors import CorpusError, InputError

DIALOGUE = {
    "situation": "a move",
    "dialog": [
        {"speaker": "seeker", "annotation": {}, "content": "The boxes are still in the hall."},
        {"speaker": "supporter", "annotation": {"strategy": "Question"}, "content": "What keeps you from them?"},
    ],
}
GOOD = json.dumps([DIALOGUE, DIALOGUE]).encode()


class Site:
    """A local server: what it sends for each path, and the paths it was asked for."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {f"/data/{name}": GOOD for name in FILES}
        self.asked: list[str] = []
        self.cut = False
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                body = site.bodies.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write((body or b"")[: len(GOOD) // 2 if site.cut else None])

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/data"


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    thread = Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield site
    site.server.shutdown()
    site.server.server_close()
    thread.join()


def test_both_files_are_fetched_and_read(site: Site, tmp_path: Path):
    read: list[int] = []
    files = fetch(tmp_path / "esconv", site.url + "/", read.append)
    assert site.asked == [f"/data/{name}" for name in FILES]
    assert [f.path.name for f in files] == list(FILES)
    assert [(f.dialogues, f.skipped, f.size) for f in files] == [(2, 0, len(GOOD))] * 2
    assert files[0].sha256 == hashlib.sha256(GOOD).hexdigest()
    assert sum(read) == 2 * len(GOOD)
    assert sorted(p.name for p in (tmp_path / "esconv").iterdir()) == sorted(FILES)


@pytest.mark.parametrize("body", [None, b"<html>moved</html>", b"[]", b"\xff\xfe\x00"])
def test_bad_answer_leaves_the_old_file_and_no_rest(site: Site, tmp_path: Path, body: bytes | None):
    (tmp_path / FILES[0]).write_text("old", encoding="utf-8")
    site.bodies[f"/data/{FILES[0]}"] = body  # pyright: ignore[reportArgumentType]
    with pytest.raises(CorpusError, match=FILES[0]):
        fetch(tmp_path, site.url)
    assert [p.name for p in tmp_path.iterdir()] == [FILES[0]]
    assert (tmp_path / FILES[0]).read_text(encoding="utf-8") == "old"


def test_broken_off_download_is_an_error(site: Site, tmp_path: Path):
    site.cut = True
    with pytest.raises(CorpusError, match=r"broke off|could not be fetched"):
        fetch(tmp_path, site.url)
    assert list(tmp_path.iterdir()) == []


def test_oversized_file_is_an_error(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fetch_module, "LARGEST", 100)
    with pytest.raises(CorpusError, match="larger than"):
        fetch(tmp_path, site.url)
    assert list(tmp_path.iterdir()) == []


def test_server_that_is_not_there_is_an_error(tmp_path: Path):
    with pytest.raises(CorpusError, match="could not be fetched"):
        fetch(tmp_path, "http://127.0.0.1:9/data")


@pytest.mark.parametrize("url", ["file:///etc", "ftp://example.org/x", "example.org/x"])
def test_other_schemes_are_refused(tmp_path: Path, url: str):
    with pytest.raises(InputError, match="no http or https address"):
        fetch(tmp_path, url)
