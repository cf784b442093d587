"""Images with scores of one's choice, in a ledger."""

from dpiqa.routing import decide
from dpiqa.storage.claims import claim
from dpiqa.storage.items import Scored
from dpiqa.storage.results import record
from dpiqa.types import Stage
from support.ledger import ref


def score_all(ledger, scores, profile, card, bucket="photos"):
    """Make a job whose images, by key, have these scores under a profile whose student has this card."""
    job, ids = ledger.submit([ref(key, f"e-{key}", bucket=bucket) for key in scores], bucket=bucket, profile=profile)
    for start in range(0, len(ids), 1000):
        part = ids[start : start + 1000]
        scorer_ids = {profile.id: card.scorer_id}
        held = ledger.do(claim, part, stage=Stage.STUDENT, owner="w", lease_seconds=60, scorer_ids=scorer_ids)
        outcomes = [Scored(one, scores[one.ref.key], one.ref.etag) for one in held]
        ledger.do(record, Stage.STUDENT, profile, card, outcomes, decide=decide, max_errors=5)
    return job
