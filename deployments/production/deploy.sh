#!/bin/sh
# Register with the server of PREFECT_API_URL what this project brings: work pool, block types, deployments.
# It may be run again at any time. Run it from the root of a checkout: that folder is where workers look for the flows.
set -eu
prefect work-pool inspect "$RUNCOMFY_WORK_POOL" >/dev/null 2>&1 ||
  prefect --no-prompt work-pool create "$RUNCOMFY_WORK_POOL" --type process
prefect block register --module blocks
prefect --no-prompt deploy --all --prefect-file deployments/prefect.yaml
