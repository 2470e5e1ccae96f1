"""Raw text to a clean corpus: work units, executors, the stages `annotate` and `filter`."""
