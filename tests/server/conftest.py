import shutil
from pathlib import Path

import pytest
from fastmcp import Client

from esc_skills.server.app import create_server
from esc_skills.server.loader import BankLoader
from esc_skills.server.watch import LiveBank
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.settings import Settings

SAMPLES = Path(__file__).parent / "skills"

WORRIED = "I am so anxious and scared about the exam deadline next week that I can't sleep."
GRIEVING = "My grandmother died last month and I am so sad, I cry and miss her every day."
CRISIS = "I want to kill myself tonight, I have the pills here."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plain folder with three composed skills."""
    return shutil.copytree(SAMPLES, tmp_path / "bank")


@pytest.fixture
def settings(folder: Path) -> Settings:
    return Settings(bank_dir=folder)


@pytest.fixture
def loader(settings: Settings) -> BankLoader:
    return BankLoader(settings, encoder=FakeEncoder())


@pytest.fixture
def live(loader: BankLoader) -> LiveBank:
    """A live bank that does not watch its folder."""
    return LiveBank(loader, watch=False)


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    """Both protocol eras."""
    return request.param


@pytest.fixture
async def client(live: LiveBank, era: str):
    async with Client(create_server(live), mode=era) as connected:
        yield connected
