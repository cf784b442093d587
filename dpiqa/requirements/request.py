"""What somebody asks to be made a requirement. Pure."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dpiqa.errors import InvalidRequest
from dpiqa.requirements.pairs import Pair, check_pairs
from dpiqa.types import Direction

#: Part of scorer ids (`...:portraits@1`) and of profiles: one spelling, no `:` and no `@`.
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
_NAME = re.compile(NAME_PATTERN.replace("$", r"\Z"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementRequest:
    """The pairs of a new version, how they are to be read, and the model to check them with."""

    name: str
    pairs: tuple[Pair, ...]
    direction: Direction
    model: str  #: name of a PromptIQA model
    force: bool = False  #: accept pairs that contradict each other

    def check(self) -> None:
        """Raise `InvalidRequest` for what can be told without a look at the images."""
        if not _NAME.match(self.name):
            raise InvalidRequest(
                f"{self.name!r} is no name for a requirement",
                cure="use up to 63 of a-z 0-9 . _ - beginning with a letter or digit; versions are numbered by dpiqa",
            )
        check_pairs(self.pairs)

    @property
    def hash(self) -> str:
        """What two equal requests have in common, hex, before any image is read."""
        pairs = [[pair.path, pair.score] for pair in self.pairs]
        return _digest([self.direction, self.model, self.force, pairs])

    def content_hash(self, digests: Sequence[str]) -> str:
        """Return what two equal requirements have in common, hex: images by their bytes, scores, direction.

        Not paths, and not the order of the pairs: the model sees neither. `digests`: sha256 of each image's bytes.
        """
        scores = [pair.score for pair in self.pairs]
        return _digest([self.direction, sorted(zip(digests, scores, strict=True))])


def _digest(said: list[object]) -> str:
    return hashlib.sha256(json.dumps(said, separators=(",", ":")).encode()).hexdigest()
