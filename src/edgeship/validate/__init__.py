"""The release gate: ten checks of something that answers, and the verdict that they come to."""
