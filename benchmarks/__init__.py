"""Measurements that are made by hand; README.md says which."""
