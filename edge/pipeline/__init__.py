"""What the station's models say of each animal: a consumer of the store with a list of its own."""
