"""The HTTP server that speaks OpenAI's API, its chat page, and batches of the same requests from a file."""
