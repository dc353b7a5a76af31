"""Photographs that people take: what they tell beside the picture, and small copies of them."""
