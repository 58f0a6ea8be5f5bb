#!/usr/bin/env bash
# The whole road on one machine, with real posts: import -> corpus -> tokenizer -> model -> chat -> numbers.
#
#   bash runs/laptop.sh                        about 30 minutes on 2 cores
#   STEPS=30 CHAT_STEPS=10 bash runs/laptop.sh the same road in a few minutes, with a model that has barely begun to learn
#   POSTS=my-archive.zip bash runs/laptop.sh   your own export instead of the development data
#
# Kill it at any moment and start it again: every command goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."

DATA=${DATA:-../shared/data}                                     # development data; see its README
POSTS=${POSTS:-$DATA/posts/ordinary_archives.parquet}            # 265,482 posts of 36 people who published their archives
CHAT=${CHAT:-$DATA/chat/dialogues.parquet}                       # 11,278 dialogues
export AGORA_WORKSPACE=${AGORA_WORKSPACE:-workspace/laptop}
agora() { .venv/bin/python -m agora "$@"; }

if [ ! -e "$POSTS" ]; then
  echo "laptop.sh: skipped, there are no posts at $POSTS; set POSTS to an export of your own" >&2
  exit 0
fi

# 1. Posts. Broken records go to quarantine with file, place and reason; nothing is lost.
agora posts import "$POSTS"

# 2. Corpus. Only 36 authors here, so a quarter of them is held out: a model is judged on people it has never read. Up to 16 posts of
#    one author make a document (the recipe's number), so the model learns to take up how somebody writes. A text that was reposted
#    counts once, as its author's: 36 people repost thousands of others.
agora corpus build heldout_share=0.25 timeline_posts=16 reposts=once

# 3. Tokens. 8,192 byte-level tokens; about 3.4 bytes of a post each.
agora tokenizer train vocab_size=8192
agora tokenizer pack

# 4. Learning. 10.5M parameters; the recipe holds the arithmetic (recipes/laptop.py).
agora train pretrain laptop ${STEPS:+training.steps=$STEPS}

# 5. Chat. The loss counts only what the assistant says.
agora train chat "$CHAT" --licence "CC BY-SA 4.0, CC BY 4.0, CDLA-Sharing 1.0" ${CHAT_STEPS:+chat.steps=$CHAT_STEPS}

# 6. Numbers and words. Bits per byte beside xz and zstd on the same bytes, then an answer.
agora evaluate --model main --max-documents "${DOCUMENTS:-2000}"
agora chat --model chat --prompt "Did you see the game last night?"

# 7. Search: an index of words, then an answer whose every sentence names its posts.
agora search index
agora search ask "What do people say about coffee?"
