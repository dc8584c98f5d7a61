"""DIMSE: the listener, its associations and their services. pynetdicom lives here only, and only to negotiate."""
