"""Charts: pure functions from numbers to shapes in a picture of a fixed width. The page draws the shapes."""
