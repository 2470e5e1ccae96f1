"""Is a reply right, and how sure are we: answer extraction, scoring against a check, statistics."""
