"""Inference: the one generation path, its sampling, and the chat in the terminal."""
