"""Between Python objects and tensors."""
