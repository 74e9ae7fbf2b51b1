"""Requests checked, answers made."""
