"""Models: one decoder described by a `ModelConfig`, its cache, and the mapping to published weight layouts."""
