"""One file per platform format."""
