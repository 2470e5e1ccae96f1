"""What is wrong with training data, found before any training."""
