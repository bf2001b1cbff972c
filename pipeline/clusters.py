"""Prototypes → recurring situations: Ward's agglomeration with a ceiling on size, and how stable it is.

Ward (1963) merges the two groups whose union adds least to the within-group sum of squares. One rule is added: no
group grows beyond `MAX_SIZE` prototypes, because a skill that covers more actions than that is no longer one
situation. There is no randomness in it; only the bootstrap of `stability` draws, from a seeded generator.
"""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..skills_bank.errors import CorpusError, InputError
from ..skills_bank.models import InterventionUnit, Prototype
from ..skills_bank.taxonomy import ACTION_INFO, SCENARIO_INFO, STATE_INFO, Scenario, SeekerState, SupportAction
from .features import WEIGHTS, Features
from .frozen import WEIGHTS_SHA256
from .prototypes import prototypes

DEFAULT_CLUSTERS = 27
"""As many situations as Zhu et al. 2026 report."""
MAX_SIZE = 14
"""Most prototypes in a cluster: nearly all actions of one state, and no more."""
NEIGHBOURS = 3


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cluster(_Frozen):
    """One recurring situation: the prototypes in it, and its nearest neighbours."""

    id: str = Field(pattern=r"^c\d{2,3}$")
    label: str
    states: tuple[SeekerState, ...] = Field(description="Most units first.")
    actions: tuple[SupportAction, ...] = Field(description="Most units first.")
    scenarios: tuple[Scenario, ...] = Field(
        description="Three primary scenarios it leans to: share above the corpus's."
    )
    n: int
    n_key: int
    prototypes: tuple[tuple[SeekerState, SupportAction], ...]
    neighbours: tuple[str, ...] = Field(description="Ids of the nearest clusters by centroid, nearest first.")


class Stability(_Frozen):
    """Adjusted Rand index (Hubert and Arabie 1985) between the clustering and those of resampled corpora."""

    resamples: int
    seed: int
    median: float
    low: float = Field(description="5th percentile.")
    high: float = Field(description="95th percentile.")
    shared: float = Field(description="Mean share of the prototypes that a resample still has.")


class Clustering(_Frozen):
    """All clusters, with what is needed to see how they came about."""

    format: Literal[1] = 1
    encoder: str = f"all-MiniLM-L6-v2, frozen, sha256 {WEIGHTS_SHA256}"
    labels_sha256: str
    weights: dict[str, float]
    max_size: int
    stability: Stability | None = None
    clusters: tuple[Cluster, ...]

    def get(self, cluster: str) -> Cluster:
        """Return one cluster by id.

        Raises:
            InputError: There is none of that id.
        """
        for found in self.clusters:
            if found.id == cluster:
                return found
        raise InputError(f"No cluster {cluster!r}. Known: {', '.join(c.id for c in self.clusters)}.")


def ward(points: np.ndarray, n: int, max_size: int = MAX_SIZE) -> np.ndarray:
    """Return a group number for each row of `points`.

    Raises:
        InputError: `n` groups of at most `max_size` cannot hold the points, or the ceiling left no allowed merge.
    """
    count = len(points)
    if not 1 <= n <= count or n * max_size < count:
        raise InputError(
            f"Cannot make {n} clusters of at most {max_size} out of {count} prototypes; change --clusters."
        )
    centres, sizes = points.astype(np.float64).copy(), np.ones(count)
    members: dict[int, list[int]] = {i: [i] for i in range(count)}
    costs = ((centres[:, None] - centres[None]) ** 2).sum(axis=-1) / 2
    np.fill_diagonal(costs, np.inf)
    while len(members) > n:
        i, j = sorted(int(k) for k in np.unravel_index(np.argmin(costs), costs.shape))
        if not np.isfinite(costs[i, j]):
            raise InputError(f"No merge left below {max_size} prototypes at {len(members)} clusters; raise --clusters.")
        centres[i] = (sizes[i] * centres[i] + sizes[j] * centres[j]) / (sizes[i] + sizes[j])
        sizes[i] += sizes[j]
        members[i] += members.pop(j)
        costs[j], costs[:, j] = np.inf, np.inf
        row = ((centres - centres[i]) ** 2).sum(axis=1) * sizes * sizes[i] / (sizes + sizes[i])
        allowed = np.zeros(count, bool)
        allowed[[k for k in members if k != i and sizes[k] + sizes[i] <= max_size]] = True
        costs[i] = costs[:, i] = np.where(allowed, row, np.inf)
    labels = np.empty(count, int)
    for number, group in enumerate(members.values()):
        labels[group] = number
    return labels


def _family(actions: Sequence[SupportAction]) -> str:
    """Return in words what kind of action a cluster is about, by Hill's stages."""
    if len(actions) == 1:
        return ACTION_INFO[actions[0]].name.lower()
    stages = {ACTION_INFO[action].hill_stage for action in actions} - {"any"}
    if stages == {"exploration"}:
        return "hearing out and exploring"
    if "exploration" in stages:
        return "from hearing out to next steps"
    return "shifting the view and next steps"


def _ordered(counts: Counter) -> tuple:
    return tuple(key for key, _ in counts.most_common())


def _leaning(counts: Counter[Scenario], overall: Counter[Scenario]) -> tuple[Scenario, ...]:
    """Return the three scenarios whose share here lies furthest above their share over all prototypes."""

    def excess(scenario: Scenario) -> float:
        return counts[scenario] / counts.total() - overall[scenario] / overall.total()

    return tuple(sorted(counts, key=lambda s: (-excess(s), list(Scenario).index(s)))[:3])


def _label(states: Sequence[SeekerState], actions: Sequence[SupportAction], scenarios: Sequence[Scenario]) -> str:
    who = " / ".join(STATE_INFO[state].name for state in states[:2]) if len(states) <= 2 else "Any state"
    return f"{who}: {_family(actions)} ({', '.join(SCENARIO_INFO[s].name.lower() for s in scenarios)})"


def _assemble(kept: Sequence[Prototype], points: np.ndarray, groups: np.ndarray) -> tuple[Cluster, ...]:
    """Name and order the groups: by the taxonomy's place of the main state, then of the first action."""
    drafts = []
    overall: Counter[Scenario] = Counter()
    for p in kept:
        overall.update(p.scenarios)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group).tolist()
        inside = [kept[i] for i in rows]
        states, actions, scenarios = Counter(), Counter(), Counter()
        for p in inside:
            states[p.state] += p.n
            actions[p.action] += p.n
            scenarios.update(p.scenarios)
        most = Counter(p.state for p in inside).most_common(1)[0][0]
        # Clusters across many states stand last; they belong to no state's place.
        place = (len(states) > 2, list(SeekerState).index(most), min(rows))
        drafts.append((
            place, inside, points[rows].mean(axis=0), _ordered(states), _ordered(actions), _leaning(scenarios, overall),
        ))  # fmt: skip
    drafts.sort(key=lambda draft: draft[0])
    names = [f"c{i:02d}" for i in range(1, len(drafts) + 1)]
    centres = np.stack([draft[2] for draft in drafts])
    found = []
    for i, (_, inside, centre, states, actions, scenarios) in enumerate(drafts):
        nearest = [k for k in np.argsort(((centres - centre) ** 2).sum(axis=1), kind="stable").tolist() if k != i]
        found.append(
            Cluster(
                id=names[i],
                label=_label(states, actions, scenarios),
                states=states,
                actions=actions,
                scenarios=scenarios,
                n=sum(p.n for p in inside),
                n_key=sum(p.n_key for p in inside),
                prototypes=tuple((p.state, p.action) for p in inside),
                neighbours=tuple(names[k] for k in nearest[:NEIGHBOURS]),
            )
        )
    return tuple(found)


def cluster(
    units: Sequence[InterventionUnit], features: Features, labels_sha256: str, n: int = DEFAULT_CLUSTERS
) -> Clustering:
    """Group the prototypes of `units` into `n` situations."""
    kept = prototypes(units)
    points = features.matrix(units, kept)
    return Clustering(
        labels_sha256=labels_sha256,
        weights=WEIGHTS,
        max_size=MAX_SIZE,
        clusters=_assemble(kept, points, ward(points, n)),
    )


def stability(
    units: Sequence[InterventionUnit],
    features: Features,
    n: int = DEFAULT_CLUSTERS,
    *,
    resamples: int = 50,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Stability:
    """Resample dialogues with replacement, rebuild prototypes and features, cluster again and compare.

    The index is taken over the prototypes which both the whole corpus and the resample have.
    """
    from sklearn.metrics import adjusted_rand_score

    def grouping(sample: Sequence[InterventionUnit]) -> dict[tuple[SeekerState, SupportAction], int]:
        kept = prototypes(sample)
        groups = ward(features.matrix(sample, kept), n)
        return {(p.state, p.action): int(group) for p, group in zip(kept, groups, strict=True)}

    whole = grouping(units)
    by_dialogue: dict[str, list[InterventionUnit]] = defaultdict(list)
    for unit in units:
        by_dialogue[unit.dialogue].append(unit)
    dialogues, rng = list(by_dialogue), random.Random(seed)
    scores: list[float] = []
    shares: list[float] = []
    for _ in range(resamples):
        sample = [unit for name in rng.choices(dialogues, k=len(dialogues)) for unit in by_dialogue[name]]
        again = grouping(sample)
        shared = [cell for cell in whole if cell in again]
        scores.append(adjusted_rand_score([whole[cell] for cell in shared], [again[cell] for cell in shared]))
        shares.append(len(shared) / len(whole))
        if progress:
            progress(1)
    low, median, high = np.quantile(scores, [0.05, 0.5, 0.95])
    return Stability(
        resamples=resamples,
        seed=seed,
        median=round(float(median), 3),
        low=round(float(low), 3),
        high=round(float(high), 3),
        shared=round(float(np.mean(shares)), 3),
    )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shipped_clusters_path() -> Path:
    """Return where the shipped clustering lies."""
    return Path(str(files("esc_skills.pipeline").joinpath("data/clusters.json")))


def load_clusters(path: Path | None = None) -> Clustering:
    """Read a clustering (default: the shipped one).

    Raises:
        CorpusError: The file is absent or is no clustering of ours.
    """
    path = path or shipped_clusters_path()
    try:
        return Clustering.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CorpusError(f"No clusters at {path}. Run `esc-skills build clusters --shared DIR`.") from error
    except ValueError as error:
        raise CorpusError(f"{path} is no clusters file: {error}") from error
