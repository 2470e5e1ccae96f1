"""What compression costs and brings: quality against the original, size, memory, speed."""
