"""Scorer ids: the text under which scores are stored, and its parts. Standard library only."""

import re
from dataclasses import dataclass, replace
from itertools import compress, product

from dpiqa.types import Backend, Precision, Rendition

_NAMES = ("nchw", "sampled", "mirrored")  #: of options, in the order of the text
#: The second version of every preprocessing corrected pictures of unusual kinds; those of photographs stayed the same.
_FIRST_VERSION = re.compile(r"-v1(?=\+|$)")
_OPTIONS = [list(compress(_NAMES, chosen)) for chosen in product((False, True), repeat=len(_NAMES))]
_BACKENDS = (Backend.COMPILE, Backend.OPENVINO, Backend.ONNXRUNTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerId:
    """Identity of a scorer: a change of weights, preprocessing, arithmetic or requirement makes another scorer.

    As text `model:weights:preprocessing:precision[+nchw][+sampled][+mirrored][+backend][:requirement]`.
    """

    model: str  #: name of the model, e.g. `bundled-student`
    weights: str  #: first 12 hex digits of the weights' sha256; of a plug-in's model with `@` and its version
    preprocessing: str  #: version of the preprocessing, e.g. `squash-bilinear-512x512-v2`
    precision: Precision
    channels_last: bool = True  #: memory format of a torch network's maps; False: `nchw`
    sampled: bool = False  #: whether a teacher's latents are a sample of the VAE's posterior instead of its mean
    mirrored: bool = False  #: whether a teacher scores every picture's mirror image, too, and gives the mean
    backend: Backend = Backend.EAGER  #: library that computes the network; one other than `eager` is in the text
    requirement: str | None = None  #: `name@version` of the requirement that a PromptIQA scorer scores by

    @classmethod
    def parse(cls, text: str) -> "ScorerId":
        """Read the text that `str` writes. Raises `ValueError` if it is not a scorer id."""
        parts = text.split(":")
        precision, *options = parts[3].split("+") if len(parts) in (4, 5) else [""]
        backend = next((backend for backend in _BACKENDS if options[-1:] == [backend]), Backend.EAGER)
        if backend is not Backend.EAGER:
            options.pop()
        if precision not in tuple(Precision) or options not in _OPTIONS:
            raise ValueError(f"{text!r} is not a scorer id: model:weights:preprocessing:precision[:requirement]")
        return cls(
            model=parts[0],
            weights=parts[1],
            preprocessing=parts[2],
            precision=Precision(precision),
            channels_last="nchw" not in options,
            sampled="sampled" in options,
            mirrored="mirrored" in options,
            backend=backend,
            requirement=parts[4] if len(parts) == 5 else None,
        )

    def __str__(self) -> str:
        chosen = (not self.channels_last, self.sampled, self.mirrored)
        options = "".join(f"+{name}" for name in compress(_NAMES, chosen))
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
