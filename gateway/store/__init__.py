"""Stores: the catalogue on MongoDB and the objects on disk or S3."""
