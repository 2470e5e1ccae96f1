"""Labelled data sets as instructions, through templates in several wordings (docs/dialogue-cleaning.md)."""
