"""Alembic's folder of the server's database."""
