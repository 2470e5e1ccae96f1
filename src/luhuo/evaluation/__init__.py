"""Evaluation: bits per byte against xz, accuracy by family with intervals, paired comparison of two runs."""
