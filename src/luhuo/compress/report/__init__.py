"""Choosing among ways to compress a model: what to try, what it may cost, what is best within limits."""
