"""Scores of an ad before it runs: layout, legibility when small, agreement with the landing page, and clicks by one's own past results."""
