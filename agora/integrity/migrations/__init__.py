"""The ledger's schema, as Alembic migrations. A change is a new file in versions/; those there are never edited."""
