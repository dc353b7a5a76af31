"""Phones that run WatermelonDB: what a pull reads, what a push and an upload do. Pure; both homes run the same jobs."""
