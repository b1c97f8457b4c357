"""Engines turn prompts into tokens: `api` is the contract, `opening.load` picks one for a package."""
