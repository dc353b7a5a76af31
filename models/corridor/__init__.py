"""Corridors: cost surfaces, exact least-cost paths, and policies that choose routes and parcels."""
