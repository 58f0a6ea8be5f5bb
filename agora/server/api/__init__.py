"""The JSON API below /api/v1: one file for each area. What a page shows comes from here."""
