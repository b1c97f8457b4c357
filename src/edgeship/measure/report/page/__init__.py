"""The page that tells of measurements: one file of HTML, without a script and with nothing from elsewhere."""
