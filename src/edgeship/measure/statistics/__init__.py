"""Intervals, and what can be said with them: shown to hold, shown to fail, or undecided."""
