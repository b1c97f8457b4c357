"""`python -m edgeship`."""

from edgeship.cli import entry

if __name__ == "__main__":
    entry()
