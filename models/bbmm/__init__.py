"""The Brownian bridge: where an animal was between its fixes, and how sure that is."""
