"""Benchmarks as data: one YAML file a task says where its items lie, how they are asked and how replies are scored."""
