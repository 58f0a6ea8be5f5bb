"""The simulated square: who lives there, what happens, what they write. `agora.posts.simulate` is the way in."""
