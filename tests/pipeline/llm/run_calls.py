"""A run of calls to be killed: `run_calls.py URL JOURNAL COUNT`."""

import asyncio
import sys
from pathlib import Path

from pydantic import SecretStr

from esc_skills.pipeline.llm.client import LLMMessage, LLMRequest, Role
from esc_skills.pipeline.llm.door import open_door
from esc_skills.pipeline.llm.settings import LLMSettings

IN_FLIGHT = 8


async def main(url: str, journal: str, count: int) -> None:
    settings = LLMSettings(llm_base_url=url, api_key=SecretStr("sk-test-killed"), llm_in_flight=IN_FLIGHT)
    async with open_door(settings, Path(journal), run="killed") as door:

        async def one(number: int) -> None:
            message = LLMMessage(role="user", content=f"line {number}")
            request = LLMRequest(
                role=Role.ANNOTATOR,
                model="test-model",
                prompt="mood@abc123",
                system="Name the mood.",
                messages=(message,),
                max_tokens=50,
                subject=f"line {number}",
            )
            assert await door.text(request) == f"mood of line {number}"

        await asyncio.gather(*map(one, range(count)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
