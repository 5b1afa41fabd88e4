"""What `reconcile` does for the runs of a Prefect server: find those that nobody works on, and run orders again."""
