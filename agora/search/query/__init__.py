"""The query language of members: nodes, parser, printer, dates in words, and whether a post matches."""
