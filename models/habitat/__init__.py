"""Habitat: where a species can live, by boosted trees over maps, and how well that is known."""
