"""Finding what is being said, and answering from it."""
