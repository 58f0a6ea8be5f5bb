"""One script per number quoted anywhere. `python -m benchmarks --list`."""
