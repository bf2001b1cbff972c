"""What every annotator is: a stream of dialogues in, a stream of labels out, in the shape that `units` reads.

The rest of the pipeline does not know who annotated. A dialogue that could not be labelled comes back as a
`NotAnnotated`, in its place; it never ends a run.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from .corpus import Dialogue
from .labels import OTHER_SPLIT, DialogueLabels, source_of

Item = TypeVar("Item")
Result = TypeVar("Result")


class NotAnnotated(BaseModel):
    """A dialogue without labels, and why; the reason never quotes the dialogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dialogue: str
    reason: str


Annotation = DialogueLabels | NotAnnotated


class Annotator(Protocol):
    """Labels dialogues that carry none."""

    @property
    def name(self) -> str:
        """Who annotates, with the version of what decides the labels, e.g. `local@ffdabdd241a9`."""
        ...

    def about(self) -> str:
        """Say in a few lines, for the report of a build, how good the labels are expected to be."""
        ...

    def annotate(self, dialogues: AsyncIterable[Dialogue]) -> AsyncIterator[Annotation]:
        """Yield one annotation per dialogue, in the order they came in; only a few are held at a time.

        A dialogue's labels depend on that dialogue alone, so a resumed run, or one spread over machines, gives the
        same.
        """
        ...


def split_of(dialogue: Dialogue) -> str:
    """Return the split its labels carry: its own, unless that would claim a source the dialogue is not from."""
    return dialogue.split if source_of(dialogue.split) == dialogue.source else OTHER_SPLIT


async def stream(dialogues: Iterable[Dialogue]) -> AsyncIterator[Dialogue]:
    """Return a plain stream of dialogues as the asynchronous one that annotators take."""
    for dialogue in dialogues:
        yield dialogue
        await asyncio.sleep(0)


async def in_order(
    items: AsyncIterable[Item], work: Callable[[Item], Awaitable[Result]], width: int
) -> AsyncIterator[Result]:
    """Yield `work(item)` for every item, in order, with up to `width` at work at a time and no more items read.

    An error that `work` lets out ends the stream once the results before it are out; what is still at work is
    cancelled.
    """
    at_work: deque[asyncio.Future[Result]] = deque()
    try:
        async for item in items:
            at_work.append(asyncio.ensure_future(work(item)))
            if len(at_work) >= width:
                yield await at_work.popleft()
        while at_work:
            yield await at_work.popleft()
    finally:
        for task in at_work:
            task.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)
