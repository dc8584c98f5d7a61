"""Plugins that come with Isthmus, one a file, registered exactly as a third party's are."""
