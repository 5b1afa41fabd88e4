"""Stories: what a deployment or a script runs, one line a stage.

Each flow is imported from its own module (`from flows.image_to_video import image_to_video`).
"""
