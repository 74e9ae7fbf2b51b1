"""Statements, sessions, pools and the unit of work of a request."""
