"""Stories: what a deployment, a script or the command line runs, one line a stage.

Each flow is imported from its own module (`from flows.image_to_video import image_to_video`), so that the command line
answers `--help` without loading Prefect.
"""
