"""Prompt features: one row per version of a requirement and checkpoint. Within the caller's transaction."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from dpiqa.requirements.prepared import Preparation, Stability, checkpoint_of
from dpiqa.storage.requirements import Requirement

_SAVE = text(
    """
    INSERT INTO requirement_features
        (requirement_id, scorer_id, features, width, loo_srcc, loo_mae, loo_scores, contradictions)
    VALUES (:id, :scorer_id, :features, :width, :srcc, :mae, CAST(:scores AS double precision[]), :contradictions)
    ON CONFLICT DO NOTHING
    """
).bindparams(bindparam("contradictions", type_=JSONB))
_READ = text("SELECT * FROM requirement_features WHERE requirement_id = :id ORDER BY made_at DESC, scorer_id")
_LITTLE_ENDIAN = np.dtype("<f4")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredPreparation:
    """A preparation, and when it was made."""

    preparation: Preparation
    made_at: datetime


def save_preparation(c: Connection, requirement: Requirement, made: Preparation) -> None:
    """Keep what a checkpoint makes of a requirement. What is kept already stays."""
    values = {
        "id": requirement.row_id,
        "scorer_id": made.scorer_id,
        "features": np.ascontiguousarray(made.features, dtype=_LITTLE_ENDIAN).tobytes(),
        "width": made.features.shape[1],
        "srcc": made.stability.srcc,
        "mae": made.stability.mae,
        "scores": list(made.stability.scores),
        "contradictions": list(made.contradictions),
    }
    c.execute(_SAVE, values)


def read_preparations(c: Connection, requirement: Requirement, scorer_id: str | None = None) -> list[StoredPreparation]:
    """Return what checkpoints made of a requirement, the newest first; with `scorer_id` those with its weights."""
    stored = [_to_stored(row) for row in c.execute(_READ, {"id": requirement.row_id})]
    wanted = None if scorer_id is None else checkpoint_of(scorer_id)
    return [one for one in stored if wanted in (None, checkpoint_of(one.preparation.scorer_id))]


def _to_stored(row: Row[Any]) -> StoredPreparation:
    features = np.frombuffer(row.features, dtype=_LITTLE_ENDIAN).reshape(-1, row.width).astype(np.float32)
    made = Preparation(
        scorer_id=row.scorer_id,
        features=features,
        stability=Stability(row.loo_srcc, row.loo_mae, tuple(row.loo_scores)),
        contradictions=tuple(row.contradictions),
    )
    return StoredPreparation(preparation=made, made_at=row.made_at)
