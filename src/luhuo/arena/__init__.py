"""Arena: people compare answers of models they cannot see, or rate them on sheets; ratings out of what they say."""
