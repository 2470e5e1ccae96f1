"""A corpus as people see it: one page, or Markdown, about what it is made of, what was dropped and why."""
