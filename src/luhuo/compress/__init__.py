"""Compression: quantisation, pruning, low rank and small vocabularies, each measured for what it costs."""
