"""Volumes of stored images, and pictures of them (PS3.18 section 8.3.5.3)."""
