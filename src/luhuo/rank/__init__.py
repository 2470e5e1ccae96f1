"""Human ranking: a local page on which people compare answers, and preference data out of what they said."""
