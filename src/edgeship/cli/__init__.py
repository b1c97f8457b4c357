"""The command line: thin commands over the verbs, and the one error handler."""
