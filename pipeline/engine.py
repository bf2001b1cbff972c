"""Where annotation runs: in this process, or (`ray_engine.py`) on the workers of a Ray cluster.

The rest of a build is minutes on one core and always runs here. An engine gets a recipe rather than an annotator,
because a worker on another machine has to make its own: sessions and connections do not travel.
"""

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from .annotator import Annotation, Annotator
from .corpus import Dialogue


class AnnotatorRecipe(Protocol):
    """How an annotator is made; a value that can be sent to another process."""

    def open(self) -> AbstractAsyncContextManager[Annotator]:
        """Make the annotator, with the connections it needs for as long as the context lasts."""
        ...


class Engine(Protocol):
    """Runs an annotator over a corpus. Every engine gives the same annotations, byte for byte, in the same order."""

    def annotate(self, recipe: AnnotatorRecipe, dialogues: AsyncIterable[Dialogue]) -> AsyncGenerator[Annotation]:
        """Yield one annotation per dialogue, in the order they came in; only a few are held at a time."""
        ...


class LocalEngine:
    """An `Engine` that annotates in this process."""

    async def annotate(self, recipe: AnnotatorRecipe, dialogues: AsyncIterable[Dialogue]) -> AsyncGenerator[Annotation]:
        """Yield the annotations of one annotator."""
        async with recipe.open() as annotator:
            annotations = annotator.annotate(dialogues)
            try:
                async for annotation in annotations:
                    yield annotation
            finally:  # what is still under way ends before the annotator's connections do
                if isinstance(annotations, AsyncGenerator):
                    await annotations.aclose()
