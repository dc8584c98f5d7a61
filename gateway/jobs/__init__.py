"""Runs of plugins: durable in MongoDB, executed by Ray, their results filed in the archive."""
