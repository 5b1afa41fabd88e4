"""The command `prefect-runcomfy`: the engine from a shell, without Prefect and without a server.

`app` has the commands; `generate`, `batch`, `inbox`, `journal`, `review`, `reconcile`, `erase`, `verify`, `catalogue`,
`report`, `doctor` and `init` have those of their kind, and the folder `templates` what `init` writes, with
`model_flows` for models. `any_model` is `generate` with any model, whose options are the model's inputs; `models` shows
and pins them, and `model_output` prints one. `manifest` writes a manifest to begin with. `environment` and `options`
read what was given, `following` runs a generation and ends it at a Ctrl-C, `output` prints and has the exit codes,
`failure` says what an error means and what to run, `log` writes to stderr, and `streams` is stdout and stderr as they
are found. `journal_view` chooses what the `journal` commands show, and `journal_output` prints it.
"""
