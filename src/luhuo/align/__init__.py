"""Alignment: what turns a base model into an assistant."""
