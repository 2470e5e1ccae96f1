"""Dialogue: conversations, their layouts on disk, the one renderer to tokens and loss mask, and packing."""
