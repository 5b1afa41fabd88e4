"""What a deployment or a script runs: each flow is a story, one line a stage.

Each flow is imported from its own module (`from flows.image_to_video import image_to_video`). One generation:
`image_to_video`, `text_to_video`, `generate` with any model, and by its request `fetch_request`. Many: `batch` with
`batch_shard`, and `inbox`. What no run waits for: `reconcile`; what a person decides: `adopt_request`,
`release_generation`, `review`. Overviews: `catalogue`, `report`. `parameters` reads what an event's template gives, and
`model_form` gives `generate` the form of one model.
"""
