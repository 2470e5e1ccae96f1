"""Measures of what a model said: pure functions of outputs and references, without a model."""
