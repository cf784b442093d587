"""The no-reference metrics of `pyiqa` (IQA-PyTorch) as scorers: `pyiqa:topiq_nr`, `pyiqa:niqe`, ...

Each sees the picture as this project's models do, squashed to 512x512, so scores differ from those of `pyiqa` at full
resolution. The package and most of its weights are for non-commercial use, so its licence must be accepted first. It
downloads weights itself, when a metric is first loaded, into its cache (`$TORCH_HOME/hub/pyiqa`); a folder with them
can be put there beforehand.
"""

import hashlib
import importlib.util
import runpy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from dpiqa.errors import ConfigurationError
from dpiqa.extras import required_for
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.models.cards import sha256_of
from dpiqa.types import ModelKind

LICENCE = "PolyForm-Noncommercial-1.0.0"
_CONFIGS = "default_model_configs.py"


class PyiqaScorers:
    """The plug-in: see `dpiqa.models.plugins.ScorerPlugin`."""

    licence_to_accept = LICENCE

    def cards(self) -> Iterator[ModelCard]:
        """Yield a card for each no-reference metric; none where `pyiqa` is not installed. Does not import it."""
        for name, config in _metrics().items():
            if config.get("metric_mode") == "NR":
                yield _card(name, config)

    def load(self, card: ModelCard, *, device: str, threads: int | None) -> Scorer:
        """Load a metric. Raises `ConfigurationError` where a library, the device or the weights are missing."""
        with required_for(card.name, "pyiqa"):
            import pyiqa  # noqa: PLC0415 - an extra
            import torch  # noqa: PLC0415 - an extra
        if threads is not None:
            torch.set_num_threads(threads)
        place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            with _opened_files() as files, redirect_stdout(sys.stderr):  # it prints what it downloads
                scorer = _PyiqaScorer(card, pyiqa.create_metric(card.name.partition(".")[2], device=place))
                size = (1, card.preprocessing.height, card.preprocessing.width, 3)
                scorer.score(np.random.default_rng(0).integers(0, 256, size, np.uint8))  # some read files only here
        except OSError as error:  # its weights cannot be downloaded
            raise ConfigurationError(
                f"{card.name} cannot be loaded: {error}",
                hint="put its weights into pyiqa's cache, $TORCH_HOME/hub/pyiqa, or allow it to download them",
            ) from error
        scorer.card = card.model_copy(update={"weights_files": {path.name: sha256_of(path) for path in sorted(files)}})
        return scorer


class _PyiqaScorer:
    """A metric in memory."""

    def __init__(self, card: ModelCard, metric: Any) -> None:
        self.card, self._metric = card, metric

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """See `Scorer.score`. Images go one by one: some metrics give others in a batch than alone."""
        import torch  # noqa: PLC0415 - loaded already

        scores = []
        with torch.inference_mode():
            for image in pixels:
                tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
                scores.append(float(self._metric(tensor)))
        return np.array(scores, dtype=np.float64)


@contextmanager
def _opened_files() -> Iterator[set[Path]]:
    """Collect the files below the folders of weights that Python opens meanwhile: pyiqa does not say what it loads.

    Files that a library reads past Python, as safetensors does, are not among them.
    """
    from torch import hub  # noqa: PLC0415 - loaded already

    folders = (hub.get_dir(), str(Path.home() / ".cache" / "clip"))
    opened: set[str] = set()
    existing: set[Path] = set()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and listening and isinstance(arguments[0], str) and arguments[0].startswith(folders):
            opened.add(arguments[0])

    listening = True
    sys.addaudithook(note)  # it stays for the life of the process, and ends here to listen
    try:
        yield existing
    finally:
        listening = False
        existing |= {path for path in map(Path, opened) if path.is_file()}


def _metrics() -> Mapping[str, Mapping[str, Any]]:
    """Return the metrics by name, from the file that lists them: importing the package takes many seconds."""
    spec = importlib.util.find_spec("pyiqa")
    if spec is None or spec.origin is None:
        return {}
    configs: Mapping[str, Mapping[str, Any]] = runpy.run_path(str(Path(spec.origin).with_name(_CONFIGS)))[
        "DEFAULT_CONFIGS"
    ]
    return configs


def _card(name: str, config: Mapping[str, Any]) -> ModelCard:
    lower = bool(config.get("lower_better", False))
    direction = "lower is better" if lower else "higher is better"
    scale = f"{name} of pyiqa, {config.get('score_range', 'no stated range')}, {direction}"
    options = sorted(map(str, config.get("metric_opts", {}).items()))
    try:
        release = version("pyiqa")  # which fixes the weights of each metric, by URL
    except PackageNotFoundError:
        release = "0"
    return ModelCard(
        name=f"pyiqa.{name}",
        kind=ModelKind.PLUGIN,
        sha256=hashlib.sha256(f"{name} {options}".encode()).hexdigest(),
        plugin_version=release,
        preprocessing=Preprocessing(width=512, height=512),
        score_scale=scale,
        lower_is_better=lower,
        licence=f"{LICENCE} (pyiqa); each metric's weights have their own terms",
        paper="https://github.com/chaofengc/IQA-PyTorch",
        notes="On the picture squashed to 512x512: scores differ from those of pyiqa at full resolution.",
    )
