"""Scaling laws: a grid of small runs, the law that fits them, and the size and tokens it recommends for a budget."""
