"""Judges: models, reward models and rules that say which answer is better, and how far people agree with them."""
