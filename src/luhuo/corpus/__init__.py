"""Raw text to clean, deduplicated, split documents, to tokenised shards, to batches."""
