"""What a worker may say about an item it holds."""

from dataclasses import dataclass
from typing import TypeAlias

from dpiqa.storage.rows import Claim
from dpiqa.types import ImageRef, Reason


@dataclass(frozen=True, slots=True)
class Scored:
    """The model has spoken. A score that is not finite is recorded as rejected (`non_finite_score`)."""

    claim: Claim
    score: float  #: MOS/100
    etag: str  #: of the bytes that were read; another than the claim's counts as `Changed`
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """This image cannot be scored, and trying again will not help."""

    claim: Claim
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Gone:
    """The store says that the object is not there."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Changed:
    """The object has other bytes by now: `new` enters the same job in place of the claim's image."""

    claim: Claim
    new: ImageRef


@dataclass(frozen=True, slots=True)
class Postponed:
    """The world's fault (S3 down): again after a delay, without limit."""

    claim: Claim
    delay_seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """Nobody's known fault: again after a delay, dead after `max_errors`."""

    claim: Claim
    detail: str
    delay_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Release:
    """Given back untouched, at once (shutdown)."""

    claim: Claim


Outcome: TypeAlias = Scored | Rejected | Gone | Changed | Postponed | Failed | Release
