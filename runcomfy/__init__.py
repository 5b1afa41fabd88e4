"""The engine: one image or prompt in, one archived video out. It knows nothing of Prefect."""
