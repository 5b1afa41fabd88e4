"""What runs where and when.

`setup` makes what a Prefect server needs, `doctor` checks it, and `drain` empties a work pool. `worker` and `serve`
run the flows, over `orderly`, which shuts them down gracefully at a redeploy. `automations` lets deployments heal
themselves, `entry` begins and ends their commands in words, `steps` is for `prefect deploy`, `demo` runs a flow on this
machine (`demo_run`), and `monitoring` watches the metrics.
"""
