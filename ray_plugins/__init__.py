"""Plugins on medical images: what their authors import, how they are found, where they run, what they give."""
