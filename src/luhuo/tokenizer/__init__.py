"""Text to token ids and back: training, loading, comparing, incremental decoding."""
