"""How good and how fast a package is: `probe` measures one, `compare` chooses, `report` writes it down."""
