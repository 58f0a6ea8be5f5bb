"""The whole pipeline as executable pages."""
