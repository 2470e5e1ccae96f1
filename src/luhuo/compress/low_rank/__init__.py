"""Matrices as products of two thin ones."""
