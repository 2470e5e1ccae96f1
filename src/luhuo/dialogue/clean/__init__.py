"""Cleaning instruction data: repeats, conflicts, refusals, faults, and choosing what is worth learning from."""
