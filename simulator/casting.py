"""Who talks to whom in a run: a recipe that any process can make the agent and the seeker from.

A recipe is a value: it is sent to worker processes and to other machines, which make their own encoder, bank and
connections from it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, Protocol, get_args

from ..pipeline.llm.client import LLMClient, LLMRequest, Role
from ..skills_bank.errors import InputError
from ..skills_bank.models import Message
from ..skills_bank.results import Selection
from .agent import Agent
from .emotion import Rules, rules_named
from .reader import Reader
from .seeker import Seeker
from .sources import BankRef, BankSource, SkillSource, load_selector

if TYPE_CHECKING:
    from ..pipeline.llm.settings import LLMSettings
    from ..skills_bank.encoder import Encoder

Maker = Literal["local", "llm"]
AgentName = Literal["no-skill", "bank", "mcp", "only-advice", "only-questions", "only-reassurance"]
AGENTS: tuple[AgentName, ...] = get_args(AgentName)
WITH_BANK = frozenset({"bank", "mcp"})
WITH_MODEL = frozenset({"no-skill", "bank", "mcp"})


class Cast(NamedTuple):
    """The two sides of a talk and the rules between them."""

    agent: Agent
    seeker: Seeker
    rules: Rules


class Recipe(Protocol):
    """How a cast is made; a value that can be sent to another process."""

    @property
    def asks_models(self) -> bool:
        """Whether language models are called: then all talks run in one process, many at a time."""
        ...

    def open(self) -> AbstractAsyncContextManager[Cast]:
        """Make the cast, with the connections it needs for as long as the context lasts."""
        ...


@dataclass(frozen=True)
class CastRecipe:
    """The agents and seekers that `esc-skills simulate` offers."""

    agent: AgentName
    bank: BankRef
    supporter: Maker = "local"
    seeker: Maker = "local"
    rules: str = "sage"
    region: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    """Model by role, for the sides that ask one."""
    llm: "LLMSettings | None" = None
    journal: Path | None = None
    run: str = ""
    draw: str = ""
    """Another draw has models answer anew what stands in the journal."""
    command: Sequence[str] = ()
    """What starts the server that `mcp` asks; default: this installation's."""
    readings: Path | None = None
    """File in which local casts on this machine keep what they read (`readings.py`); default: they keep it not."""

    def __post_init__(self) -> None:
        """Refuse what cannot be played.

        Raises:
            InputError: The agent has no form of that kind.
        """
        if self.supporter == "llm" and self.agent not in WITH_MODEL:
            raise InputError(f"The agent {self.agent!r} has no words by a model; leave --supporter llm out.")

    @property
    def asks_models(self) -> bool:
        """Whether language models are called."""
        return "llm" in (self.supporter, self.seeker)

    def roles(self) -> tuple[Role, ...]:
        """Return the roles that ask a model."""
        sides = ((self.supporter, (Role.SUPPORTER,)), (self.seeker, (Role.SCORER, Role.SEEKER)))
        return tuple(role for maker, roles in sides if maker == "llm" for role in roles)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Cast]:
        """Make the cast."""
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(self._client()) if self.asks_models else _NOBODY
            yield self.cast(client, await stack.enter_async_context(self._source()))

    def cast(self, client: LLMClient, source: SkillSource) -> Cast:
        """Put agent and seeker together over a client and a source of skills."""
        return Cast(self._agent(client, source), self._seeker(client), rules_named(self.rules))

    def names(self) -> tuple[str, str]:
        """Return what agent and seeker are called, without opening a connection."""
        made = self.cast(_NOBODY, _NOWHERE)
        return made.agent.name, made.seeker.name

    def _agent(self, client: LLMClient, source: SkillSource) -> Agent:
        if self.supporter == "llm":
            from .agents_llm import LLMSupporter

            mine = source if self.agent in WITH_BANK else None
            return LLMSupporter(client, self.models[Role.SUPPORTER], mine, self.agent)
        from .agents_local import BankAgent, action_agent
        from .wording import Wording

        if self.agent in WITH_BANK:
            return BankAgent(source, Wording(), self.agent)
        return action_agent(self.agent, shared_reader(self._readings), _desk(self.region), Wording())

    def _seeker(self, client: LLMClient) -> Seeker:
        if self.seeker == "llm":
            from .llm_seeker import LLMSeeker

            return LLMSeeker(client, self.models[Role.SCORER], self.models[Role.SEEKER], rules_named(self.rules))
        return _local_seeker(self.rules, self._readings)

    @property
    def _readings(self) -> Path | None:
        """The file for readings; none where models talk, whose words seldom come back."""
        return None if self.asks_models else self.readings

    @asynccontextmanager
    async def _source(self) -> AsyncIterator[SkillSource]:
        if self.agent == "mcp":
            from .agent_mcp import open_mcp_source

            async with open_mcp_source(self.bank, self.command) as source:
                yield source
        elif self.agent == "bank":
            # Beside calls to a model other talks wait for this thread; a local run has nobody else to serve.
            yield BankSource(_selector(self.bank, self.region, self._readings), in_thread=self.asks_models)
        else:
            yield _NOWHERE

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[LLMClient]:
        from ..pipeline.llm.door import open_door
        from .meter import Metered

        if self.llm is None or self.journal is None:
            raise InputError("A cast that asks models needs their settings and a journal.")
        async with open_door(self.llm, self.journal, run=self.run) as door:
            yield Metered(door, self.draw)


@lru_cache(maxsize=2)
def shared_reader(readings: Path | None = None) -> Reader:
    """Return the encoder of this process, loaded once: with one thread, so that every machine adds up alike.

    Args:
        readings: File in which to keep what is read; default: memory alone.
    """
    from .readings import Readings

    return Reader(_encoder(), Readings(readings) if readings else None)


@lru_cache(maxsize=1)
def _encoder() -> "Encoder":
    from ..skills_bank.encoder import Encoder

    return Encoder.load(threads=1)


@lru_cache(maxsize=2)
def _local_seeker(rules: str, readings: Path | None) -> Seeker:
    from .local_seeker import LocalSeeker

    return LocalSeeker.load(shared_reader(readings), rules_named(rules))


@lru_cache(maxsize=4)
def _selector(bank: BankRef, region: str | None, readings: Path | None) -> Any:
    return load_selector(bank, shared_reader(readings), region)


@lru_cache(maxsize=4)
def _desk(region: str | None) -> Any:
    from ..skills_bank.risk import RiskDesk
    from .reader import quick_desk

    return quick_desk(RiskDesk.load(region))


class _Nobody:
    """Stands where a model or a bank would, in a cast that has none."""

    async def text(self, *_: Any) -> NoReturn:
        raise InputError("This cast has nobody to ask.")

    async def structured(self, request: LLMRequest, schema: Any) -> NoReturn:
        raise InputError("This cast has nobody to ask.")

    async def select(self, talk: Sequence[Message]) -> Selection:
        raise InputError("This cast has nobody to ask.")


_NOBODY: Any = _Nobody()
_NOWHERE: Any = _NOBODY
