"""Requirements: image-score pairs, and the prompt features that checkpoints make of them

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_requirements()
    op.create_table(
        "requirement_pairs",
        sa.Column("requirement_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("sha256", sa.Text()),
        sa.CheckConstraint("score >= 0 AND score <= 1", name=op.f("requirement_pairs_score_check")),
        sa.ForeignKeyConstraint(
            ["requirement_id"], ["requirements.id"], name=op.f("requirement_pairs_requirement_id_fkey")
        ),
        sa.PrimaryKeyConstraint("requirement_id", "position", name=op.f("requirement_pairs_pkey")),
    )
    op.create_table(
        "requirement_features",
        sa.Column("requirement_id", sa.BigInteger(), nullable=False),
        sa.Column("scorer_id", sa.Text(), nullable=False),
        sa.Column("features", sa.LargeBinary(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("loo_srcc", sa.Double()),
        sa.Column("loo_mae", sa.Double(), nullable=False),
        sa.Column("loo_scores", postgresql.ARRAY(sa.Double()), nullable=False),
        sa.Column("contradictions", postgresql.JSONB(), nullable=False),
        _now("made_at"),
        sa.CheckConstraint(
            "loo_mae > '-Infinity' AND loo_mae < 'Infinity'", name=op.f("requirement_features_loo_mae_finite_check")
        ),
        sa.ForeignKeyConstraint(
            ["requirement_id"], ["requirements.id"], name=op.f("requirement_features_requirement_id_fkey")
        ),
        sa.PrimaryKeyConstraint("requirement_id", "scorer_id", name=op.f("requirement_features_pkey")),
    )


def downgrade() -> None:
    for table in ("requirement_features", "requirement_pairs", "requirements"):
        op.drop_table(table)


def _create_requirements() -> None:
    op.create_table(
        "requirements",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("force", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text()),
        sa.Column("error", sa.Text()),
        _now("created_at"),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crashes", sa.Integer(), server_default="0", nullable=False),
        *_requirement_checks(),
        sa.PrimaryKeyConstraint("id", name=op.f("requirements_pkey")),
        sa.UniqueConstraint("name", "version", name=op.f("requirements_name_version_key")),
    )
    pending, ready = sa.text("state = 'pending'"), sa.text("state = 'ready'")
    op.create_index("requirements_pending", "requirements", ["created_at"], postgresql_where=pending)
    op.create_index(
        "requirements_one_content", "requirements", ["name", "content_hash"], unique=True, postgresql_where=ready
    )


def _requirement_checks() -> list[sa.CheckConstraint]:
    rules = {
        "direction": "direction IN ('higher is better', 'lower is better')",
        "state": "state IN ('pending', 'ready', 'refused')",
        "finished": "(state = 'pending') = (finished_at IS NULL)",
        "content": "(state = 'ready') = (content_hash IS NOT NULL)",
        "error": "(state = 'refused') = (error IS NOT NULL)",
        "lease": "state = 'pending' OR lease_until IS NULL",
    }
    return [sa.CheckConstraint(rule, name=op.f(f"requirements_{name}_check")) for name, rule in rules.items()]


def _now(name: str) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False)
