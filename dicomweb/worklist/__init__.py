"""Workitems of the worklist service as data, without I/O (PS3.18 chapter 11, PS3.4 Annex CC)."""
