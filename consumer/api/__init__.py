"""Decisions over HTTP: the REST service and its page."""
