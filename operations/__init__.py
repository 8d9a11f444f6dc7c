"""Operations: what an operator does, one command a file."""
