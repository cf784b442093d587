"""The ledger: Postgres through SQLAlchemy. The table is the truth."""
