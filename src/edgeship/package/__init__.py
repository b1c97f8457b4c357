"""What a package folder says: one reader for each fact. A leaf for those who make packages and who run them."""
