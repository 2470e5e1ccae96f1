"""Quantisation-aware training: the model learns with the numbers it will be kept in."""
