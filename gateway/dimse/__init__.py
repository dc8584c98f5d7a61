"""DIMSE: the listener, the clients, and their bridge to the event loop. pynetdicom lives here only."""
