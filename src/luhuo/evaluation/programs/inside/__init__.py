"""What runs inside the sandbox: only Python's standard library."""
