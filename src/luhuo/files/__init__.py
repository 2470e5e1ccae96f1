"""References to files near and far, their verified cache, and streaming readers of text formats."""
