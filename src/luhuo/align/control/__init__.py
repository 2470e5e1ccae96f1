"""Control by attributes: rows say what their answers are like, so that an answer can be asked to be like that."""
