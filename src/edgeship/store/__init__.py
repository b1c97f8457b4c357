"""Where packages live."""
