"""Alignment without people's labels: models criticise, revise and judge, or are known to be better and worse."""
