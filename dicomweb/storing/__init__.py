"""The forms in which instances arrive by STOW-RS (PS3.18 section 10.5)."""
