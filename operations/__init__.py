"""Operations: what an operator does, one command per file."""
