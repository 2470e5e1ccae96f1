"""Preference optimisation without reinforcement learning: one file a method over shared rows and log-probabilities."""
