"""Cases are asked, and what became of them."""
