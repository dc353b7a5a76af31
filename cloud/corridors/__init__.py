"""Corridors in the cloud: routes for those who wait for them, and the jobs that search and store them."""
