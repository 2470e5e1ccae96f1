"""The part of the sandbox that runs in its own processes. It imports the standard library and nothing else: a fresh
interpreter starts it without site-packages, as the package `inside`, so its modules import one another relatively."""
