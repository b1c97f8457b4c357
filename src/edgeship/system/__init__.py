"""The machine beneath: cores and memory, disks, processes, shells, JSON files. A leaf that knows nothing of models."""
