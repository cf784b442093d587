"""Scorers of other packages: the entry-point group `dpiqa.scorers`. docs/plugins.md is the guide.

A package is imported when one of its models is named, or when all models are listed. One that is broken costs its own
models and one line; nothing else depends on it. Free of torch.
"""

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

import numpy as np
import structlog
from pydantic import ValidationError

from dpiqa.errors import ConfigurationError, DpiqaError, NotFound
from dpiqa.models.base import ModelCard, Scorer, require_shape
from dpiqa.text import first_field_error, first_line
from dpiqa.types import ModelKind, Precision

log = structlog.get_logger()

GROUP = "dpiqa.scorers"
#: Adapters that come with dpiqa.
_OWN = [EntryPoint("pyiqa", "dpiqa.models.pyiqa_plugin:PyiqaScorers", GROUP)]
_HINT = "update or uninstall that package; other models do not need it"


class ScorerPlugin(Protocol):
    """The scorers of a package: what its entry point names, an object or a class without arguments.

    It may have an attribute `licence_to_accept`: the name, without spaces, of a licence that a user has to accept
    before any of its models is loaded.
    """

    def cards(self) -> Iterable[ModelCard]:
        """Return the card of each of its models, without loading any.

        A card has `kind=ModelKind.PLUGIN`, no `weights`, and a `name` of the form `PLUGIN.MODEL`, where `PLUGIN` is the
        name of the entry point. `preprocessing` says how pictures are prepared, `score_scale` and `lower_is_better`
        what scores mean, `licence` the terms. `sha256` is the digest of the weights, or, of a model without any, of
        whatever makes its scores; other weights are another scorer, whose scores are kept apart.
        """

    def load(self, card: ModelCard, *, device: str, threads: int | None) -> Scorer:
        """Load a model. Called once in each process that uses it.

        Args:
            card: One of `cards`.
            device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`, ...
            threads: CPU threads that it may use; None: as many as it chooses.

        Returns:
            A scorer: `card`, and `score`, which turns (B, H, W, 3) uint8 into (B,) scores. One thread uses it at a
            time. It raises `DeviceMemoryError` for a batch that does not fit on the device: a smaller one is tried.
            Its card may state the files it was loaded from, `weights_files`; all else is taken from the card of
            `cards`.

        Raises:
            ConfigurationError: The device or the weights are missing.
        """


class PluginScorer:
    """A plug-in's scorer, whose answers are checked: see `Scorer`."""

    def __init__(self, card: ModelCard, scorer: Scorer) -> None:
        files = getattr(getattr(scorer, "card", None), "weights_files", {})
        self.card, self._scorer = card.model_copy(update={"weights_files": files}), scorer

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """See `Scorer.score`. Raises `ConfigurationError` for an answer that is not one number for each image."""
        require_shape(pixels, self.card)
        scores = np.asarray(self._scorer.score(pixels), dtype=np.float64)
        if scores.shape != (len(pixels),):
            raise ConfigurationError(
                f"{self.card.name} answers {len(pixels)} images with an array of shape {scores.shape}", hint=_HINT
            )
        return scores


def plugin_cards() -> list[ModelCard]:
    """Return the cards of all plug-ins. One that is broken is left out, with a warning in the log."""
    found: list[ModelCard] = []
    for name, entry in _entries().items():
        try:
            found += _cards_of(name, entry)[1].values()
        except DpiqaError as error:
            log.warning("plugin_broken", plugin=name, error=str(error))
    return found


def find_plugin_card(name: str) -> ModelCard | None:
    """Return the card of a plug-in's model `PLUGIN.MODEL`; None where no plug-in has this name.

    Raises `NotFound` for another model of a plug-in, `ConfigurationError` for a broken plug-in.
    """
    plugin, entry = _entry_of(name)
    if entry is None:
        return None
    cards = _cards_of(plugin, entry)[1]
    if name not in cards:
        some = ", ".join(sorted(cards)[:12]) + (", ..." if len(cards) > 12 else "")
        raise NotFound(f"the plug-in {plugin} has no model {name!r}", hint=f"its models: {some or 'none here'}")
    return cards[name]


def licence_to_accept(card: ModelCard) -> str | None:
    """Return the licence that a user has to accept before the model is loaded; None where there is none.

    Raises `ConfigurationError` for a plug-in that is broken.
    """
    plugin, entry = _entry_of(card.name)
    if card.kind is not ModelKind.PLUGIN or entry is None:
        return None
    return getattr(_cards_of(plugin, entry)[0], "licence_to_accept", None)


def load_plugin_scorer(card: ModelCard, *, device: str, threads: int | None) -> Scorer:
    """Load a plug-in's model, and log its licence before. Raises `ConfigurationError`, also for what it raises.

    An error of this project passes through.
    """
    plugin, entry = _entry_of(card.name)
    if entry is None:
        raise ConfigurationError(f"the plug-in of {card.name} is not installed", hint="install its package again")
    log.warning("plugin_licence", model=card.name, licence=card.licence)
    try:
        scorer = _cards_of(plugin, entry)[0].load(card, device=device, threads=threads)
    except DpiqaError:
        raise
    except Exception as error:
        raise _broken(plugin, entry, error) from error
    return PluginScorer(card, scorer)


def _entries() -> dict[str, EntryPoint]:
    installed = sorted(entry_points(group=GROUP), key=lambda entry: entry.value)
    return {entry.name: entry for entry in (*_OWN, *installed)}


def _entry_of(name: str) -> tuple[str, EntryPoint | None]:
    plugin = name.partition(".")[0]
    return plugin, _entries().get(plugin)


def _cards_of(plugin: str, entry: EntryPoint) -> tuple[ScorerPlugin, dict[str, ModelCard]]:
    """Return a plug-in and its cards by name. Raises `ConfigurationError` for whatever is wrong with it."""
    try:
        loaded = entry.load()
        scorers: ScorerPlugin = loaded() if isinstance(loaded, type) else loaded
        cards = {card.name: _checked(card, plugin, entry) for card in scorers.cards()}
    except DpiqaError:
        raise
    except (Exception, SystemExit) as error:
        raise _broken(plugin, entry, error) from error
    return scorers, cards


def _checked(card: ModelCard, plugin: str, entry: EntryPoint) -> ModelCard:
    """Return the card with the version of the package, unless it names one: it becomes part of the scorer's id."""
    if not card.name.startswith(f"{plugin}.") or ":" in card.name:
        raise ValueError(f"the model {card.name!r} must be called {plugin}.MODEL")
    if card.kind is not ModelKind.PLUGIN or card.weights is not None or card.precision is not Precision.FLOAT32:
        raise ValueError(f"{card.name} must be of kind plugin, in float32, and name no weights")
    if len(card.sha256) != 64 or set(card.sha256) - set("0123456789abcdef"):
        raise ValueError(f"the sha256 of {card.name} is not 64 hex digits")
    release = card.plugin_version or (entry.dist.version if entry.dist else "0")
    return card.model_copy(update={"plugin_version": release})


def _broken(plugin: str, entry: EntryPoint, error: BaseException) -> ConfigurationError:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
    what = str(first_field_error(error)) if isinstance(error, ValidationError) else first_line(error)
    return ConfigurationError(f"the plug-in {plugin} ({package}) is broken: {what}", hint=_HINT)
