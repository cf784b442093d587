"""Example keys of the failures of a job, by reason: enough to see what went wrong without reading all of them."""

from uuid import UUID

from sqlalchemy import Connection, bindparam, func, select, union

from dpiqa.storage.columns import constant, constants
from dpiqa.storage.tables import UNSCORED_STATES, images, items
from dpiqa.types import Reason

# As in the index `items_unscored`: a partial index serves only what the planner can see to be within it.
IS_UNSCORED = items.c.state.in_(constants(UNSCORED_STATES))
LOOKED_AT = 200  #: failures of each state, the first by image, among which examples are looked for
PER_REASON = 3  #: examples of each reason

_FIRST = union(  # an image that failed under several profiles is one example
    *(
        select(
            select(items.c.image_id, items.c.reason)
            .where(items.c.job_id == bindparam("of_job"), items.c.state == constant(state), IS_UNSCORED)
            .order_by(items.c.image_id)
            .limit(LOOKED_AT)
            .subquery(f"first_{state}")
        )
        for state in UNSCORED_STATES
    )
).subquery("failures")
_RANKED = select(
    _FIRST, func.row_number().over(partition_by=_FIRST.c.reason, order_by=_FIRST.c.image_id).label("rank")
).subquery("ranked")
EXAMPLES = (
    select(_RANKED.c.reason, images.c.key)
    .join(images, images.c.id == _RANKED.c.image_id)
    .where(_RANKED.c.rank <= PER_REASON)
    .order_by(_RANKED.c.reason, _RANKED.c.image_id)
)


def read_examples(c: Connection, job_id: UUID) -> dict[Reason, list[str]]:
    """Return up to three keys for each reason that is met among the first failures of each state.

    The work is bounded, whatever the number of failures; a rare reason may therefore have no example.
    """
    examples: dict[Reason, list[str]] = {}
    for row in c.execute(EXAMPLES, {"of_job": job_id}):
        examples.setdefault(Reason(row.reason), []).append(row.key)
    return examples
