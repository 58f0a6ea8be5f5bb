"""Agora: the AI stack of a social platform. Folders in the order in which data flows; see README.md."""

__version__ = "0.1.0"
