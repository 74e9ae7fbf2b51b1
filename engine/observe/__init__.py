"""Logs, traces, alerts."""
