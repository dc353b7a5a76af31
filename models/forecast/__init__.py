"""The forecast: where an animal will be in 1, 3, 6, 12 and 24 hours, with ellipses that hold what they say."""
