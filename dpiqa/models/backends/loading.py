"""From a card to a scorer by its backend, once the backend has given the scores of eager PyTorch."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import structlog

from dpiqa.errors import CheckpointError, ConfigurationError
from dpiqa.extras import require, required_for
from dpiqa.models.backends.graph import GraphScorer, graph_file
from dpiqa.models.backends.parity import farthest_scores, parity_pictures, require_parity
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.models.torch_scorer import TorchScorer, load_torch_scorer
from dpiqa.types import Backend, Precision

log = structlog.get_logger()
S = TypeVar("S", bound=Scorer)


def load_by_backend(
    card: ModelCard, weights: Path, *, device: str, threads: int | None, cache_dir: Path | None, falls_back: bool
) -> Scorer:
    """Load a student by the card's backend, which is not eager. Its scores of some pictures are compared with eager's.

    Args:
        card: the model.
        weights: its safetensors file.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads; None: as many as the library chooses.
        cache_dir: folder that keeps what was compiled, for the next start; None: nothing is kept.
        falls_back: load it by eager PyTorch where the backend cannot be used, with a line in the log.

    Returns:
        The scorer; its card names the backend that computes it.

    Raises:
        CheckpointError: the weights do not fit the card's architecture.
        ConfigurationError: the backend is not installed, cannot compute this model here, or gives other scores.
    """
    in_graph = card.backend is not Backend.COMPILE
    try:
        precision = Precision.FLOAT32 if in_graph else card.precision  # a graph is exported in full precision
        eager = _eager(card, weights, precision, "cpu" if in_graph else device, threads)
        return by_backend(card, eager, device=device, threads=threads, cache_dir=cache_dir)
    except ConfigurationError as error:
        if not falls_back:
            raise
        log.warning("backend_not_used", model=card.name, backend=card.backend.value, error=str(error))
        return _eager(card, weights, card.precision, device, threads)


def by_backend(
    card: ModelCard, eager: TorchScorer, *, device: str, threads: int | None, cache_dir: Path | None
) -> Scorer:
    """Return the scorer of the card's backend for the network of `eager`, which gives the scores to compare with.

    Arguments and errors as of `load_by_backend`. For `compile`, `eager` runs compiled afterwards; for the others it
    must be in float32 on the CPU.
    """
    expected = eager.score(_pictures(card))
    if card.backend is Backend.COMPILE:
        from dpiqa.models.backends.compiled import compiled  # noqa: PLC0415 - imports the compiler of torch: seconds

        scorer = compiled(card, eager, cache_dir and _writable(cache_dir / "inductor"))
        return _checked(
            scorer, expected, batches=[max(1, size - 1) for size in scorer.sizes]
        )  # filled up, if it can be
    open_graph = _library(card.backend)
    folder = cache_dir and _writable(cache_dir / "graphs")
    if folder is not None:
        path, is_new = graph_file(card, eager.network, folder)
        try:
            return _checked(open_graph(card, path, device=device, threads=threads), expected)
        except (CheckpointError, ConfigurationError) as error:
            if is_new:
                raise
            log.warning("graph_discarded", file=str(path), error=str(error))
            path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="dpiqa-graph-") as temporary:
        path, _ = graph_file(card, eager.network, folder or Path(temporary))
        return _checked(open_graph(card, path, device=device, threads=threads), expected)


def _library(backend: Backend) -> Callable[..., GraphScorer]:
    purpose = f"the backend {backend}"
    require("onnx", purpose, backend.value)  # of which PyTorch makes the graph
    with required_for(purpose, backend.value):
        if backend is Backend.OPENVINO:
            from dpiqa.models.backends.openvino_graph import open_graph  # noqa: PLC0415 - an extra
        else:
            from dpiqa.models.backends.onnxruntime_graph import open_graph  # noqa: PLC0415 - an extra
    return open_graph


def _eager(card: ModelCard, weights: Path, precision: Precision, device: str, threads: int | None) -> TorchScorer:
    eager = card.model_copy(update={"backend": Backend.EAGER, "precision": precision})
    return load_torch_scorer(eager, weights, device=device, threads=threads)


def _pictures(card: ModelCard) -> np.ndarray:
    return parity_pictures(card.preprocessing.height, card.preprocessing.width)


def _checked(scorer: S, expected: np.ndarray, batches: Sequence[int] = ()) -> S:
    """Check all pictures at once, and in batches of these numbers."""
    pictures = _pictures(scorer.card)
    scores = farthest_scores(scorer.score, pictures, expected, [len(pictures), *batches])
    parity = require_parity(scorer.card, scores, expected)
    log.info(
        "backend_checked",
        scorer=scorer.card.scorer_id,
        difference=parity.difference,
        rank_correlation=round(parity.correlation, 3),
    )
    return scorer


def _writable(folder: Path) -> Path | None:
    """Return the folder, made for this user alone; None where it cannot be written to: then nothing is kept."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        log.warning("nothing_cached", folder=str(folder), error=str(error))
        return None
