"""Stored pixels: where frames lie, and how they are decoded, encoded and told apart."""
