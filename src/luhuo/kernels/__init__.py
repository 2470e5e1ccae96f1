"""Operations below the models: quantised block formats, and products with them, behind plain functions."""
