"""What a scorer is, and the card that travels with its weights. Free of torch."""

from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.percentiles import Reference, find_reference
from dpiqa.scorer_id import ScorerId
from dpiqa.types import ModelKind, Precision


class ModelCard(BaseModel):
    """All that a score must be able to say about the model that made it. Stored as JSON next to the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str  #: how users call it, e.g. `bundled-student`
    kind: ModelKind
    architecture: dict[str, Any] = Field(default_factory=dict)  #: sizes for the network's config
    weights: str | None = None  #: safetensors file name, beside the card; None for `pixels`
    sha256: str  #: of the weights file, hex
    preprocessing: Preprocessing
    precision: Precision = Precision.FLOAT32
    channels_last: bool = True  #: memory format of a torch network's maps
    requirement: str | None = None  #: `name@version` of the requirement a PromptIQA scorer scores by
    score_scale: str = "MOS/100, nominally 0-1, higher is better, not clamped"
    lower_is_better: bool = False  #: only where a requirement says so
    licence: str
    paper: str = ""
    trained_on: str = ""  #: data and its terms
    figures: dict[str, Any] = Field(default_factory=dict)  #: measured: data set -> metric -> value, with intervals
    notes: str = ""  #: where it fails, what to use instead
    references: tuple[Reference, ...] = ()  #: how its scores are spread; several where it scores by requirements

    @property
    def scorer_id(self) -> str:
        """Identity of the scorer, as scores are stored under it: see `ScorerId`."""
        scorer_id = ScorerId(
            model=self.name,
            weights=self.sha256[:12],
            preprocessing=self.preprocessing.version,
            precision=self.precision,
            channels_last=self.channels_last,
            sampled=self.architecture.get("posterior") == "sample",  # a teacher's, see `dpiqa.models.vae.Posterior`
            requirement=self.requirement,
        )
        return str(scorer_id)

    @property
    def reference(self) -> Reference | None:
        """What gives its scores percentiles and bands; None where nobody made one for these weights."""
        return find_reference(self.references, self.scorer_id)


class Scorer(Protocol):
    """Turns prepared pixels into scores. One process owns it; not thread-safe."""

    @property
    def card(self) -> ModelCard:
        """What made the scores."""

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """`pixels` (B, H, W, 3) uint8 as `card.preprocessing` makes them -> (B,) float64 scores, on `card.score_scale`.

        Raises `DeviceMemoryError` when the batch does not fit on the device, `ValueError` quoting expected and
        given shape on a wrong shape.
        """
