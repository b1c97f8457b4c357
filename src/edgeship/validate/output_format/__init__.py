"""Keeps its output format: the shape of answers, what may not stand in them, and whether they come to an end."""
