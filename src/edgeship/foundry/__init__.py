"""Packages as models of Foundry Local: registered in its local catalog, or laid out as its older versions expect."""
