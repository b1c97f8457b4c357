"""Which of several packages to take, and why."""
