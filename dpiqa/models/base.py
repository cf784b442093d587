"""Scorers, and the cards that travel with their weights. Free of torch."""

from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.percentiles import Reference, find_reference
from dpiqa.requirement import PreparedRequirement
from dpiqa.scorer_id import ScorerId
from dpiqa.types import Backend, ModelKind, Precision, Rendition


class Posterior(StrEnum):
    """Input of a teacher's U-Net from the VAE's posterior, a normal distribution in every latent cell."""

    MEAN = "mean"
    SAMPLE = "sample"  #: as the published code does, which is unseeded; here the image's content is the seed


class ModelCard(BaseModel):
    """Everything about a model that its scores must be traceable to. Stored as JSON beside the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str  #: user-visible name, e.g. `bundled-student`
    kind: ModelKind
    architecture: dict[str, Any] = Field(default_factory=dict)  #: sizes for the network's config
    weights: str | None = None  #: safetensors file name, beside the card; None for `pixels`
    sha256: str  #: of the weights file, hex
    preprocessing: Preprocessing
    precision: Precision = Precision.FLOAT32
    channels_last: bool = True  #: memory format of a torch network's maps
    #: library that computes the network: of the process that loads it, and so not written into the file
    backend: Backend = Field(Backend.EAGER, exclude=True)
    requirement: str | None = None  #: `name@version` of the requirement a PromptIQA scorer scores by
    score_scale: str = "MOS/100, nominally 0-1, higher is better, not clamped"
    lower_is_better: bool = False  #: where a requirement says so, or a plug-in's model scores that way
    plugin_version: str | None = None  #: version of the package that a plug-in's model comes from
    weights_files: dict[str, str] = Field(default_factory=dict)  #: sha256 of the files that a plug-in loaded, by name
    licence: str
    paper: str = ""
    trained_on: str = ""  #: data and its terms
    figures: dict[str, Any] = Field(default_factory=dict)  #: measured: data set -> metric -> value, with intervals
    notes: str = ""  #: where it fails, what to use instead
    references: tuple[Reference, ...] = ()  #: distributions of its scores; several where it scores by requirements

    @property
    def draws_noise(self) -> bool:
        """Return whether its network takes a sample of the VAE's posterior; only a teacher's `architecture` can ask."""
        return self.architecture.get("posterior") == Posterior.SAMPLE

    @property
    def scorer_id(self) -> str:
        """Identity of the scorer, as scores are stored under it: see `ScorerId`."""
        scorer_id = ScorerId(
            model=self.name,
            weights=self.sha256[:12] + (f"@{self.plugin_version}" if self.plugin_version else ""),
            preprocessing=self.preprocessing.version,
            precision=self.precision,
            channels_last=self.channels_last,
            sampled=self.draws_noise,
            mirrored=self.architecture.get("mirrored") is True,
            view_size=self.architecture.get("view_size"),
            backend=self.backend,
            requirement=self.requirement,
        )
        return str(scorer_id)

    def rendered(self, rendition: Rendition) -> "ModelCard":
        """Return the card of the same model for another rendition of images, which is another scorer."""
        preprocessing = self.preprocessing.rendered(rendition)
        same = preprocessing is self.preprocessing
        return self if same else self.model_copy(update={"preprocessing": preprocessing})

    @property
    def reference(self) -> Reference | None:
        """The reference that gives its scores percentiles and bands; None if these weights have none."""
        return find_reference(self.references, self.scorer_id)


class Scorer(Protocol):
    """A model in memory, which turns prepared pixels into scores. One process owns it; not thread-safe."""

    @property
    def card(self) -> ModelCard:
        """The model that made the scores."""

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """Score a batch of images.

        Args:
            pixels: (B, H, W, 3) uint8, RGB, as `card.preprocessing` makes them; B at least 1.

        Returns:
            (B,) float64 scores on `card.score_scale`; NaN or infinite if the network's output is.

        Raises:
            DeviceMemoryError: the batch does not fit on the device; a smaller one may.
            ValueError: another shape or type of pixels; the message quotes both.
        """


@runtime_checkable
class AllocatesBuffers(Protocol):
    """A scorer on a device that reads some memory of the machine faster than other memory."""

    def buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return uninitialised uint8 of this shape in that memory."""


@runtime_checkable
class NamesDevice(Protocol):
    """A scorer that says where it runs."""

    @property
    def device(self) -> str:
        """`cpu`, `cuda:0` and the like."""


def require_shape(pixels: np.ndarray, card: ModelCard) -> None:
    """Raise `ValueError` unless `pixels` is a batch as the card's preprocessing makes it."""
    height, width = card.preprocessing.height, card.preprocessing.width
    if pixels.ndim != 4 or pixels.shape[1:] != (height, width, 3) or pixels.dtype != np.uint8:
        raise ValueError(f"expected (B, {height}, {width}, 3) uint8, got {pixels.shape} {pixels.dtype}")


class PromptModel(Protocol):
    """The part of `dpiqa.models.promptiqa.scorer.PromptIQACheckpoint` that makes requirements. Not thread-safe."""

    @property
    def card(self) -> ModelCard:
        """The checkpoint, without a requirement."""

    def features(self, pixels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Pixels (N, H, W, 3) uint8 and scores (N,) in [0, 1] -> prompt features (N, D) float32, each pair's own."""

    def scorer(self, requirement: PreparedRequirement) -> Scorer:
        """Return the scorer by a requirement. It is quick at pixels whose `features` were made lately."""
