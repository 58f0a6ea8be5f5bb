"""What the model may read: filters with named reasons, privacy, deduplication, threads, data card."""
