"""Scorer ids: the text under which scores are stored, and its parts. Standard library only."""

import re
from dataclasses import dataclass, replace

from dpiqa.types import Backend, Precision, Rendition

_ARITHMETIC = re.compile(
    rf"(?P<precision>{'|'.join(Precision)})(?P<nchw>\+nchw)?(?P<sampled>\+sampled)?(?P<mirrored>\+mirrored)?"
    rf"(?:\+views(?P<view_size>[1-9]\d*))?"
    rf"(?:\+(?P<backend>{'|'.join((Backend.COMPILE, Backend.OPENVINO, Backend.ONNXRUNTIME))}))?"
)
#: The second version of every preprocessing corrected pictures of unusual kinds; those of photographs stayed the same.
_FIRST_VERSION = re.compile(r"-v1(?=\+|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerId:
    """Identity of a scorer: a change of weights, preprocessing, arithmetic or requirement makes another scorer.

    As text `model:weights:preprocessing:precision[+nchw][+sampled][+mirrored][+views256][+backend][:requirement]`.
    """

    model: str  #: name of the model, e.g. `bundled-student`
    weights: str  #: first 12 hex digits of the weights' sha256; of a plug-in's model with `@` and its version
    preprocessing: str  #: version of the preprocessing, e.g. `squash-bilinear-512x512-v2`
    precision: Precision
    channels_last: bool = True  #: memory format of a torch network's maps; False: `nchw`
    sampled: bool = False  #: whether a teacher's latents are a sample of the VAE's posterior instead of its mean
    mirrored: bool = False  #: whether a teacher scores every picture's mirror image, too, and gives the mean
    view_size: int | None = None  #: side in pixels of the views whose mean is the score; None: the whole picture
    backend: Backend = Backend.EAGER  #: library that computes the network; one other than `eager` is in the text
    requirement: str | None = None  #: `name@version` of the requirement that a PromptIQA scorer scores by

    @classmethod
    def parse(cls, text: str) -> "ScorerId":
        """Read the text that `str` writes. Raises `ValueError` if it is not a scorer id."""
        parts = text.split(":")
        arithmetic = _ARITHMETIC.fullmatch(parts[3]) if len(parts) in (4, 5) else None
        if arithmetic is None:
            raise ValueError(f"{text!r} is not a scorer id: model:weights:preprocessing:precision[:requirement]")
        view_size = arithmetic["view_size"]
        return cls(
            model=parts[0],
            weights=parts[1],
            preprocessing=parts[2],
            precision=Precision(arithmetic["precision"]),
            channels_last=arithmetic["nchw"] is None,
            sampled=arithmetic["sampled"] is not None,
            mirrored=arithmetic["mirrored"] is not None,
            view_size=None if view_size is None else int(view_size),
            backend=Backend(arithmetic["backend"] or Backend.EAGER),
            requirement=parts[4] if len(parts) == 5 else None,
        )

    def __str__(self) -> str:
        options = "" if self.channels_last else "+nchw"
        options += "+sampled" if self.sampled else ""
        options += "+mirrored" if self.mirrored else ""
        options += "" if self.view_size is None else f"+views{self.view_size}"
        options += "" if self.backend is Backend.EAGER else f"+{self.backend}"
        requirement = "" if self.requirement is None else f":{self.requirement}"
        return f"{self.checkpoint}:{self.precision}{options}{requirement}"

    @property
    def checkpoint(self) -> str:
        """Model, weights and preprocessing, as text: what all scorers of one checkpoint have in common."""
        return f"{self.model}:{self.weights}:{self.preprocessing}"

    def same_checkpoint(self, other: "ScorerId") -> bool:
        """Return whether both have the same model, weights and preprocessing: prompt features serve both.

        Neither the arithmetic nor the requirement counts.
        """
        return self.checkpoint == other.checkpoint

    def same_but_for_name(self, other: "ScorerId") -> bool:
        """Return whether both give the same scores: a model may get another name while its weights stay."""
        return replace(self, model="") == replace(other, model="")

    def same_population(self, other: "ScorerId") -> bool:
        """Return whether a population of photographs scores the same under both: a reference counts for both.

        Neither the model's name nor the arithmetic counts, nor that a scorer saw previews of camera raw; and of a
        preprocessing the first and the second version are the same.
        """
        own, others = (
            (
                scorer.weights,
                _FIRST_VERSION.sub("-v2", scorer.preprocessing.removesuffix(f"+{Rendition.PREVIEW}")),
                scorer.requirement,
            )
            for scorer in (self, other)
        )
        return own == others
