"""Contamination: whether a model has seen the images it is measured on, as far as its card tells. Pure.

A card states in words what a model was trained on; a figure on the same data set is worth less than it looks unless the
card also says that these images were held out.
"""

import re

from dpiqa.models.base import ModelCard
from dpiqa.types import ModelKind

#: Names of a data set in cards and papers, in small letters without punctuation.
_ALIASES: dict[str, tuple[str, ...]] = {
    "koniq10k": ("koniq",),
    "spaq": ("spaq",),
    "biq2021": ("biq2021",),
    "kadid10k": ("kadid",),
    "tid2013": ("tid2013",),
    "csiq": ("csiq",),
    "agiqa3k": ("agiqa",),
    "gfiqa20k": ("gfiqa",),
    "uwiqa": ("uwiqa",),
    "aigciqa2023": ("aigciqa",),
}
#: Names that other names contain ("LIVE, CSIQ" contains "livec"): searched as words instead.
_WORDS: dict[str, str] = {
    "live": r"\blive\b(?![ -]?(challenge|in the wild|wild|fb|facebook|c\b))",
    "clive": r"\b(clive|livec|live[ -]c|live[ -]?(challenge|wild|in the wild))\b",
    "flive": r"\b(flive|live[ -]?fb|live[ -]?facebook|paq-?2-?piq)\b",
    "bid": r"\bbid\b",
}

HELD_OUT = "held out, by the card; the same data set as the training images"
CHOSEN = "chosen on this split, by the card: somewhat flattering"
SEEN = "seen in training"
SPLIT_UNKNOWN = "split unknown: possibly contaminated"
FAMILY = "in the training set's family: possibly contaminated"
UNKNOWN = "training data unknown: possibly contaminated"
ANY_CSV = "not known: a CSV does not say which data set it is of"
ZERO_SHOT = "zero-shot: not among the card's training data"


def contamination(card: ModelCard, dataset: str, split: str, *, published: bool) -> str:
    """Return the contamination of `split` (train, val, test or all) of `dataset`, according to `card`.

    `published`: whether the split is the data set's own, rather than one drawn here. Returns one of the constants
    above; "" for a known function of the pixels, which was not trained.
    """
    if card.kind is ModelKind.PIXELS:
        return ""
    if dataset.partition(":")[0] == "csv":
        return ANY_CSV
    if not any(_names(card.trained_on, name) for name in (dataset, *_ALIASES, *_WORDS)):
        return UNKNOWN  # words that name no data set, such as "photographs of mine", prove nothing
    if not _names(card.trained_on, dataset):
        return ZERO_SHOT
    return _within_the_training_set(card, dataset, split, published=published)


def _within_the_training_set(card: ModelCard, dataset: str, split: str, *, published: bool) -> str:
    if not re.search(r"train(ing)?[ -](split|part|side)", card.trained_on.lower()):
        return SPLIT_UNKNOWN
    if split in {"train", "all"}:
        return SEEN
    if not published:
        return FAMILY  # sides drawn here share images with the published training split
    return CHOSEN if _chosen_on(card, dataset, split) else HELD_OUT


def _chosen_on(card: ModelCard, dataset: str, split: str) -> bool:
    """Return whether the model was chosen by this split of the set, as its training or a figure in its card says."""
    training = card.figures.get("training")
    identity = training.get("identity", {}) if isinstance(training, dict) else {}
    return identity.get("select_on") == split or any(
        isinstance(figures, dict) and "chosen_on" in figures and _names(name, dataset) and split in name.split()
        for name, figures in card.figures.items()
    )


def _names(text: str, dataset: str) -> bool:
    if dataset in _WORDS:
        return bool(re.search(_WORDS[dataset], text.lower()))
    squeezed = re.sub(r"[^a-z0-9]", "", text.lower())
    return any(alias in squeezed for alias in _ALIASES.get(dataset, (re.sub(r"[^a-z0-9]", "", dataset.lower()),)))
