"""What is asked of a model, and when an answer is right."""
