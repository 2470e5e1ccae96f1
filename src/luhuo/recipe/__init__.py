"""Recipes: a YAML file of stages wired together, run so that it can be killed and continued anywhere."""
