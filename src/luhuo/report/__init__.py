"""The report of a run: one self-contained HTML page made from the artifacts' own files."""
