"""Bodies of statistics, and of the lists of models, profiles and workers."""

from datetime import datetime
from typing import Any

from pydantic import Field

from dpiqa.http_api.common import ResponseBody
from dpiqa.storage.distributions import HistogramBin, Quantiles
from dpiqa.storage.stats import GroupStats
from dpiqa.types import Band, Stage


class StatsOut(ResponseBody):
    """Counts and distribution of the scores that count. Right to 0.001; with groups by day or prefix, to 0.01."""

    profile: str | None = Field(description="The profile; null where groups are by profile.")
    n: int = Field(description="Current results.")
    mean: float | None
    quantiles: Quantiles | None
    histogram: list[HistogramBin]
    bands: dict[Band, int] = Field(description="By the references of the scorers; empty where they have none.")
    groups: list[GroupStats] = Field(
        description="With `group_by`: the largest 1,000 first; days and bands in order. By `state` or `reason`: the "
        "items of the job, which have no scores here."
    )
    computed_at: datetime


class ScorerOut(ResponseBody):
    """A scorer that has scored."""

    id: str = Field(validation_alias="scorer_id", description="`GET /v1/models/{id}` has its card.")
    model: str = Field(description="Name of the model.")
    scale: str
    precision: str
    requirement: str | None
    has_reference: bool = Field(description="Its scores have percentiles and bands.")
    n_results: int | None = Field(description="Current results that it scored; null while roll-ups are being built.")
    first_seen_at: datetime


class Scorers(ResponseBody):
    """All scorers."""

    items: list[ScorerOut]


class ScorerCard(ResponseBody):
    """A scorer with its model card."""

    id: str
    card: dict[str, Any] = Field(description="Model card at the scorer's first score, with its latest references.")


class ProfileOut(ResponseBody):
    """A profile that jobs used."""

    id: str
    student: str
    teacher: str | None
    max_escalated_share: float
    description: str
    first_seen_at: datetime
    n_results: int | None = Field(description="Current results under it; null while roll-ups are being built.")


class Profiles(ResponseBody):
    """All profiles."""

    items: list[ProfileOut]


class WorkerOut(ResponseBody):
    """A worker process whose last heartbeat is at most a minute old."""

    id: str
    stage: Stage
    host: str
    pid: int
    model: str = Field(validation_alias="scorer_id", description="The scorer that it serves.")
    device: str | None = Field(description="What it runs on, such as `cuda:0`; null: it does not say.")
    started_at: datetime
    seen_at: datetime


class Workers(ResponseBody):
    """All live workers."""

    items: list[WorkerOut]
