"""Tables of the teacher's prompts, by name. Free of torch.

The teacher's U-Net always sees all prompts of its table, whatever the image; attention picks those that fit. Attention
over prompts has no order: a table's nesting says which embedding belongs to which text, and does not change a score.
"""

import tomllib
from enum import StrEnum
from itertools import product
from pathlib import Path
from string import Formatter
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.text import first_field_error

Words = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
FIELDS = {"quality", "scene", "distortion"}


class TextPooling(StrEnum):
    """Ways to make one vector per text of a text encoder's output."""

    PROJECTED = "projected"  #: CLIP's own: the end token's state, projected into the space shared with images
    TOKEN_MEAN = "token-mean"  # noqa: S105 - no password. The mean of the last states of all tokens of the text


class PromptTable(BaseModel):
    """Every combination of a quality, a scene and a distortion, nested in that order, quality outermost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: str  #: with {quality}, {scene} and {distortion}
    qualities: Words
    scenes: Words
    distortions: Words
    pooling: TextPooling = TextPooling.PROJECTED
    source: str = ""  #: where the words are from
    reconstructed: bool = False  #: whether some words are a guess: not known to be those a published model was given

    @field_validator("template")
    @classmethod
    def _names_all_three(cls, template: str) -> str:
        named = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
        if named != FIELDS:
            raise ValueError(f"must contain {{quality}}, {{scene}} and {{distortion}} and no other: {template!r}")
        return template

    @field_validator("qualities", "scenes", "distortions")
    @classmethod
    def _each_once(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        repeated = next((word for word in words if words.count(word) > 1), None)
        if repeated:
            raise ValueError(f"{repeated!r} is repeated")
        return words

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of qualities, scenes and distortions."""
        return len(self.qualities), len(self.scenes), len(self.distortions)

    def texts(self) -> list[str]:
        """Return all prompts, in the order of the embeddings."""
        return [
            self.template.format(quality=quality, scene=scene, distortion=distortion)
            for quality, scene, distortion in product(self.qualities, self.scenes, self.distortions)
        ]


_QUALITIES = ("bad", "poor", "fair", "good", "perfect")
#: The words of LIQE (Zhang et al., CVPR 2023; its code is under the MIT licence), in its order and spelling. The
#: published DP-IQA code embeds them unchanged.
_LIQE_SCENES = ("animal", "cityscape", "human", "indoor", "landscape", "night", "plant", "still_life", "others")
_LIQE_DISTORTIONS = (
    "jpeg2000 compression", "jpeg compression", "white noise", "gaussian blur", "fastfading", "fnoise", "contrast",
    "lens", "motion", "diffusion", "shifting", "color quantization", "oversaturation", "desaturation",
    "white with color", "impulse", "multiplicative", "white noise with denoise", "brighten", "darken",
    "shifting the mean", "jitter", "noneccentricity patch", "pixelate", "quantization", "color blocking", "sharpness",
    "realistic blur", "realistic noise", "underexposure", "overexposure", "realistic contrast change",
    "other realistic",
)  # fmt: skip

#: Ours, for teachers small enough to train from scratch on a CPU, where attention over prompts is what costs most.
SMALL = PromptTable(
    template="a photo of {scene} with {distortion} artifacts, which is of {quality} quality",
    qualities=_QUALITIES,
    scenes=("people", "nature", "a city"),
    distortions=("no", "blur", "noise", "compression", "exposure", "colour"),
    source="this project",
)

#: The prompts of the published checkpoints: 5 x 9 x 33.
PUBLISHED = PromptTable(
    template="a photo of a {scene} with {distortion} artifacts, which is of {quality} quality",
    qualities=_QUALITIES,
    scenes=_LIQE_SCENES,
    distortions=_LIQE_DISTORTIONS,
    source="the words of LIQE (MIT licence), which the published DP-IQA code embeds",
)

#: The prompts of the paper: 5 x 11 x 35. Its own list of words was not available: those beyond LIQE's are a guess.
PAPER = PromptTable(
    template="a photo of a {scene} with {distortion} distortion, which is of {quality} quality",
    qualities=_QUALITIES,
    scenes=(*_LIQE_SCENES, "food", "water"),
    distortions=(*_LIQE_DISTORTIONS, "low-frequency noise", "other"),
    pooling=TextPooling.TOKEN_MEAN,
    source="template and counts of the paper; the words of LIQE, and food, water, low-frequency noise and other, which "
    "an independent reimplementation adds and nobody confirmed",
    reconstructed=True,
)

PROMPT_TABLES = {"small-90": SMALL, "published-1485": PUBLISHED, "paper-1925": PAPER}


def prompt_table(name: str) -> PromptTable:
    """Return the table called `name`. Raises `NotFound` naming all tables."""
    if name not in PROMPT_TABLES:
        raise NotFound(f"there is no prompt table called {name!r}", hint=f"known: {', '.join(PROMPT_TABLES)}")
    return PROMPT_TABLES[name]


def read_prompt_table(path: Path) -> PromptTable:
    """Read a table of the user's own: TOML with `template`, `qualities`, `scenes` and `distortions`.

    Raises `InvalidRequest` naming the file and the first thing wrong with it.
    """
    try:
        return PromptTable.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read as a prompt table: {error}", hint="write TOML") from error
    except ValidationError as error:
        wrong = first_field_error(error, "the file")
        raise InvalidRequest(f"{path}: {wrong}", hint="correct the prompt table") from error
