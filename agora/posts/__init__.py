"""What people wrote: the Post schema, one reader per source, the store, the simulated square."""
