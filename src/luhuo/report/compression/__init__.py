"""The page on which ways to compress a model are compared."""
