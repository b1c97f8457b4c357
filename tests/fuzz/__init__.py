"""What strangers bring, damaged in every way: readers get files that were good before one thing in them changed.

A reader takes the input or refuses it with an error of ours. Anything else is a fault: another exception (exit code 3
at the command line), no end within 20 seconds, more than 2 GB of memory, a message that is endless or not printable.
`python -m tests.fuzz --help` says how to run more of it, or one mutation again.
"""
