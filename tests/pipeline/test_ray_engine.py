"""Annotation on a real Ray cluster of two nodes: the local engine's bytes, whatever is lost on the way."""

import asyncio
import gc
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest

from esc_skills.pipeline import ray_engine
from esc_skills.pipeline.annotator import Annotation, NotAnnotated, stream
from esc_skills.pipeline.build_parts import RealParts, Recipe
from esc_skills.pipeline.build_plan import BuildPlan, CorpusFile, plan_build
from esc_skills.pipeline.corpus import Dialogue, Utterance
from esc_skills.pipeline.engine import Engine, LocalEngine
from esc_skills.pipeline.llm.scripted import ScriptedClient
from esc_skills.pipeline.llm_annotator import LLMAnnotator
from esc_skills.pipeline.ray_engine import RayEngine, RaySettings, check_ray
from esc_skills.skills_bank.errors import EscError, InputError

SEEKER = (
    "I keep dreading the move, my hands tremble when I pack.",
    "My sister stopped calling and I sit here alone every evening.",
    "Lists? I tried that and it was useless.",
    "Thank you, it feels a little lighter now.",
    "I shout at my boy over nothing and then I hate myself.",
)
SUPPORTER = (
    "What about the move weighs on you most?",
    "Anybody in your shoes would find that hard.",
    "There is a lot of sorrow in how you speak of her.",
    "Perhaps pack one box a day and rest after it.",
)
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
SOON = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500}
"""A node that is gone is missed after two seconds and not fifteen; one that is slow has ten to answer, as ever."""


def talk(number: int) -> Dialogue:
    lines: list[dict[str, str]] = []
    for i in range(3 + number % 3):
        lines.append({"speaker": "seeker", "content": SEEKER[(number + i) % len(SEEKER)]})
        lines.append({"speaker": "supporter", "content": SUPPORTER[(number * 3 + i) % len(SUPPORTER)]})
    lines.append({"speaker": "seeker", "content": f"{SEEKER[3]} That makes {number}."})
    said = tuple(Utterance.model_validate(line) for line in lines)
    return Dialogue(id=f"talk-{number:03d}", source="other", split="talks", utterances=said)


TALKS = [talk(number) for number in range(48)]


def shipped() -> Recipe:
    """What a build takes to the cluster."""
    file = CorpusFile(path=Path("talks.jsonl"), sha256="0" * 64, bytes=1)
    return Recipe(plan=BuildPlan(corpus=(file,), bank=Path("bank")), job="job", journal=Path("journal.db"))


@dataclass(frozen=True)
class Watched:
    """The shipped annotator, slowed down; it notes who began to read what, and may take its process down."""

    notes: Path
    pause: float = 0.0
    deadly: str = ""
    own_name: bool = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Any]:
        async with shipped().open() as annotator:
            yield WatchedAnnotator(self, annotator)


class WatchedAnnotator:
    def __init__(self, watched: Watched, annotator: Any) -> None:
        self._watched, self._annotator = watched, annotator
        self.name = f"{annotator.name} in {os.getpid()}" if watched.own_name else annotator.name

    async def annotate(self, dialogues: AsyncIterable[Dialogue]) -> AsyncIterator[Annotation]:
        import ray

        here = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "local"
        async for dialogue in dialogues:
            (self._watched.notes / f"{here} {dialogue.id} {os.getpid()} {os.urandom(4).hex()}").touch()
            await asyncio.sleep(self._watched.pause)
            if dialogue.id == self._watched.deadly:
                os._exit(1)
            yield self._annotator.one(dialogue)


class Notes:
    """What was noted, as (node, dialogue, process) for each beginning."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> list[tuple[str, str, int]]:
        parts = [file.name.split() for file in self.folder.iterdir()]
        return [(node, dialogue, int(process)) for node, dialogue, process, _ in parts]

    def of(self, node: str) -> set[str]:
        return {dialogue for at, dialogue, _ in self() if at == node}

    def processes(self, node: str) -> set[int]:
        return {process for at, _, process in self() if at == node}


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    (tmp_path / "notes").mkdir()
    return Notes(tmp_path / "notes")


async def lines(engine: Engine, recipe: Any, dialogues: list[Dialogue]) -> list[bytes]:
    return [found.model_dump_json().encode() async for found in engine.annotate(recipe, stream(dialogues))]


@pytest.fixture(scope="module")
def local() -> list[bytes]:
    """What the local engine gives for `TALKS`."""
    return asyncio.run(lines(LocalEngine(), shipped(), TALKS))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head with one CPU, whose Ray client listens too."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'esc-skills[ray]'")
    from ray.cluster_utils import Cluster

    # What a worker imports is the package; this module's own classes are sent along.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folder = tempfile.mkdtemp(prefix="esc-ray-", dir="/tmp")  # short: Ray makes socket names of it
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = {**NODE, "temp_dir": folder, "ray_client_server_port": port, "include_dashboard": False}
    head["_system_config"] = SOON
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")  # docs/ray.md says why
        started = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=True)
    started.client_address = f"ray://127.0.0.1:{port}"
    try:
        yield started
    finally:
        ray.shutdown()
        started.shutdown()
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
        shutil.rmtree(folder, ignore_errors=True)
        gc.collect()  # what Ray left open warns while its warnings are still let pass


@pytest.fixture
def second_node(cluster: Any) -> Any:
    """The node beside the head; a new one where a test has taken it down."""
    return next(iter(cluster.worker_nodes), None) or cluster.add_node(**NODE)


class TestOnACluster:
    pytestmark: ClassVar = [
        pytest.mark.slow,
        pytest.mark.filterwarnings("ignore:Tip. In future versions of Ray:FutureWarning"),
        pytest.mark.filterwarnings("ignore::ResourceWarning"),
    ]

    async def test_two_nodes_give_the_bytes_of_the_local_engine(
        self, cluster: Any, second_node: Any, notes: Notes, local: list[bytes]
    ):
        assert await lines(RayEngine(cluster.address), Watched(notes.folder), TALKS) == local
        assert notes.of(second_node.node_id)
        assert len({node for node, *_ in notes()}) == 2

    async def test_through_the_ray_client(self, cluster: Any, local: list[bytes]):
        pytest.importorskip("grpc", reason="the Ray client needs grpcio: pip install 'esc-skills[ray]'")
        assert await lines(RayEngine(cluster.client_address), shipped(), TALKS[:8]) == local[:8]

    async def test_a_node_lost_on_the_way_changes_nothing(
        self, cluster: Any, second_node: Any, notes: Notes, local: list[bytes], capsys: pytest.CaptureFixture[str]
    ):
        async def lose() -> None:
            """Take the node down while it is at work on its first batch."""
            while len(notes.of(lost)) < 2:
                await asyncio.sleep(0.02)
            workers = notes.processes(lost)
            for worker in workers:
                os.kill(worker, signal.SIGSTOP)  # or it might end the batch before it notices
            await asyncio.to_thread(cluster.remove_node, second_node, allow_graceful=False)
            for worker in workers:
                os.kill(worker, signal.SIGKILL)

        lost = second_node.node_id
        losing = asyncio.create_task(lose())
        found = await lines(RayEngine(cluster.address), Watched(notes.folder, pause=0.15), TALKS[:32])
        await losing
        assert found == local[:32]
        (other,) = {node for node, *_ in notes()} - {lost}
        assert notes.of(lost) & notes.of(other), "what the lost node had begun, another one began anew"
        assert capsys.readouterr().out == "", "stdout is for the results of a command"

    async def test_a_dialogue_that_takes_its_worker_down_fails_alone(
        self, cluster: Any, notes: Notes, local: list[bytes], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(ray_engine, "RETRIES", 1)
        monkeypatch.setattr(ray_engine, "BATCH", 3)
        found = await lines(RayEngine(cluster.address), Watched(notes.folder, deadly="talk-004"), TALKS[:6])
        failed = NotAnnotated.model_validate_json(found[4])
        assert (failed.dialogue, "2 times" in failed.reason) == ("talk-004", True)
        assert found[:4] + found[5:] == local[:4] + local[5:6]
        assert [dialogue for _, dialogue, _ in notes()].count("talk-004") == 4

    async def test_a_node_with_another_annotator_is_refused(self, cluster: Any, notes: Notes):
        with pytest.raises(EscError, match="Install the same esc-skills on every node"):
            await lines(RayEngine(cluster.address), Watched(notes.folder, own_name=True), TALKS[:4])
        assert not notes()

    async def test_a_node_without_the_package_is_told(self, cluster: Any, monkeypatch: pytest.MonkeyPatch):
        # All nodes of this cluster share one Python; another name stands for a package that is not there.
        monkeypatch.setattr(ray_engine, "_for_worker", lambda: lambda work: import_module("esc_skills_nowhere"))
        with pytest.raises(EscError, match=r"esc_skills_nowhere.*Install the same esc-skills\[ray\] on every node"):
            await lines(RayEngine(cluster.address), shipped(), TALKS[:4])

    async def test_leaving_early_leaves_nothing_at_work(self, cluster: Any, notes: Notes):
        annotations = RayEngine(cluster.address).annotate(Watched(notes.folder, pause=0.1), stream(TALKS))
        assert isinstance(await anext(annotations), Annotation)
        await annotations.aclose()
        await asyncio.sleep(0.5)
        begun = len(notes())
        await asyncio.sleep(1.0)
        assert len(notes()) == begun < len(TALKS)


@pytest.mark.parametrize("address", ["cluster", "ray://head", "http://head:80", "head:"])
async def test_an_address_of_no_known_form_is_refused(address: str):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'esc-skills[ray]'")
    with pytest.raises(InputError, match="ESC_RAY_ADDRESS"):
        await lines(RayEngine(address), shipped(), TALKS[:1])


async def test_an_address_where_nothing_listens_is_told_soon():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'esc-skills[ray]'")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening
        with pytest.raises(InputError, match="Nothing answers at"):
            await lines(RayEngine(f"127.0.0.1:{held.getsockname()[1]}"), shipped(), TALKS[:1])


async def test_somebody_elses_connection_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'esc-skills[ray]'")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", lambda: pytest.fail("shut down"))
    with pytest.raises(InputError, match="connected to a Ray cluster already"):
        await lines(RayEngine("local"), shipped(), TALKS[:1])


async def test_a_model_is_not_asked_from_a_cluster():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'esc-skills[ray]'")

    class Asking:
        @asynccontextmanager
        async def open(self) -> AsyncIterator[LLMAnnotator]:
            yield LLMAnnotator(ScriptedClient(lambda request: pytest.fail("asked")), "some-model")

    with pytest.raises(InputError, match="--engine local"):
        await lines(RayEngine("local"), Asking(), TALKS[:1])
    with pytest.raises(InputError, match="--engine local"):
        check_ray("llm")
    check_ray("local")


def test_without_ray_the_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'esc-skills\[ray\]'"):
        RayEngine()
    with pytest.raises(InputError, match="leave it out"):
        check_ray("local")


def test_a_plan_names_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'esc-skills[ray]'")
    corpus = tmp_path / "talks.jsonl"
    corpus.write_text("{}\n", encoding="utf-8")
    assert isinstance(RealParts(plan_build([corpus]), tmp_path).engine, LocalEngine)
    assert isinstance(RealParts(plan_build([corpus], engine="ray"), tmp_path).engine, RayEngine)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert plan_build([corpus]).engine == "local"
    with pytest.raises(InputError, match="pip install"):
        plan_build([corpus], engine="ray")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    assert RaySettings().ray_address == "auto"
    monkeypatch.setenv("ESC_RAY_ADDRESS", "ray://head:10001")
    monkeypatch.setenv("ESC_RAY_IN_FLIGHT", "40")
    assert RaySettings() == RaySettings(ray_address="ray://head:10001", ray_in_flight=40)
