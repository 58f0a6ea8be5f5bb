"""The index of posts: what every index can do, the embedded one, and Milvus for clusters."""

from agora.search.index.interface import COUNTS_SCHEMA, FOUND_SCHEMA, HISTOGRAM_SCHEMA, CatchUp, Hits, PostIndex

__all__ = ["COUNTS_SCHEMA", "FOUND_SCHEMA", "HISTOGRAM_SCHEMA", "CatchUp", "Hits", "PostIndex"]
