"""Denoising: how rows are made for objectives that hide, take out or move a part of the text."""
