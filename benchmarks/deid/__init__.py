"""The seeded-identity benchmark: what of planted identity survives de-identification, here and elsewhere."""
