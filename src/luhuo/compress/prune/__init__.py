"""Pruning: single weights, N of M neighbours, or whole heads, channels, features and layers."""
