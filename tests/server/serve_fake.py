"""Start the real server over stdio or HTTP with the encoder for tests: `python serve_fake.py BANK [PORT]`."""

import sys
from pathlib import Path

from esc_skills.server.app import create_server
from esc_skills.server.http import http_app, run_http
from esc_skills.server.loader import BankLoader
from esc_skills.server.watch import LiveBank
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.settings import Settings

live = LiveBank(BankLoader(Settings(bank_dir=Path(sys.argv[1])), encoder=FakeEncoder()))
server = create_server(live)
if len(sys.argv) > 2:
    run_http(http_app(server, live), "127.0.0.1", int(sys.argv[2]), with_token=False)
else:
    server.run("stdio", show_banner=False)
