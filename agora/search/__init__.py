"""Finding what is said: the query language, the index, ranking, cited answers, trends and alerts."""
