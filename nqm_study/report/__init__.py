"""Scaling curves, tables and figures from study records."""
