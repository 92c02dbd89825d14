"""What a set loss is made of."""
