"""The command `prefect-runcomfy`: the engine from a shell, without Prefect and without a server.

`app` has the commands; `generate`, `batch`, `inbox`, `journal`, `reconcile`, `catalogue`, `report` and `doctor` have
those of their kind. `environment` and `options` read what was given, `following` runs a generation and ends it at a
Ctrl-C, `output` prints and has the exit codes, `failure` says what an error means and what to run, `log` writes to
stderr. `journal_view` chooses what the `journal` commands show, and `journal_output` prints it.
"""
