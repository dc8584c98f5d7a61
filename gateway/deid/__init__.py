"""De-identification after PS3.15 Annex E: profiles, the plan they make, and one pass over each object."""
