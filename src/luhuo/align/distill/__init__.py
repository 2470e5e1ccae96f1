"""Distillation: a student learns what a teacher says about every token, how it gets there, or what it answers."""
