"""The ads studio behind the server: briefs that were sent, jobs in folders, and the processes that make them."""
