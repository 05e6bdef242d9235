"""Mirrors of studies in experiment trackers."""
