"""One generation, from what is asked for to its files in the bucket, without any server but RunComfy's and S3's.

`generate` runs its stages: stage (`staging` and `image_urls`; `staging_clips` for videos
and sounds), submit, wait, `archive`. `models`
pins a model of the catalogue, and checks and stages its inputs. `engine` is what it needs, opened once,
`destination` the bucket and its journal, `hooks` what the program around it adds. `ending` says what an error or an
interruption means for a request, `origin` which generation a request is of, `phases` measures, `outcomes` sums up, and
`verdicts` counts how many files are good and what a good one costs.
`reconcile` goes over all that no run waits for: it cancels, archives, and cleans up.
"""
