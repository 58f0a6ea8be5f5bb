"""Live posts. Goes in: a stream of Bluesky or Mastodon, or a file that grows. Comes out: posts in the store, each once, edits and deletions
honoured. `live.py` says what a source is, `follow.py` does the work; one file per source beside them.

Command: `agora posts follow bluesky`
"""

from agora.posts.follow.bluesky import BlueskyStream
from agora.posts.follow.file import GrowingFile
from agora.posts.follow.follow import FollowConfig, FollowSummary, follow
from agora.posts.follow.mastodon import MastodonStream

__all__ = ["BlueskyStream", "FollowConfig", "FollowSummary", "GrowingFile", "MastodonStream", "follow"]
