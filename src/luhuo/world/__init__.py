"""World: a seeded generator of one small consistent bilingual world with exact gold answers."""
