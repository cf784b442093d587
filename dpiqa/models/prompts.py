"""What the teacher is told about pictures: tables of prompts, by name.

The teacher's U-Net always sees all prompts of its table, whatever the image; attention picks those that fit.
"""

from dataclasses import dataclass
from itertools import product

from dpiqa.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class PromptTable:
    """Every combination of a quality, a scene and a distortion, nested in that order, quality outermost."""

    template: str
    qualities: tuple[str, ...]
    scenes: tuple[str, ...]
    distortions: tuple[str, ...]

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


#: Ours, for teachers small enough to train from scratch on a CPU, where attention over prompts is what costs most.
SMALL = PromptTable(
    template="a photo of {scene} with {distortion} artifacts, which is of {quality} quality",
    qualities=("bad", "poor", "fair", "good", "perfect"),
    scenes=("people", "nature", "a city"),
    distortions=("no", "blur", "noise", "compression", "exposure", "colour"),
)

PROMPT_TABLES = {"small-90": SMALL}


def prompt_table(name: str) -> PromptTable:
    """Return the table called `name`. Raises `CheckpointError` naming those there are."""
    if name not in PROMPT_TABLES:
        raise CheckpointError(f"no prompt table is called {name!r}", cure=f"known: {', '.join(PROMPT_TABLES)}")
    return PROMPT_TABLES[name]
