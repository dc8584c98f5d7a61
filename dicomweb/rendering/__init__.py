"""Pictures and texts of stored instances (PS3.18 section 8.3.5, PS3.4 Annex N)."""
