"""The machine beneath: cores and memory, disks, processes, JSON files. A leaf that knows nothing of models."""
