#!/bin/sh
# Register with the server of PREFECT_API_URL what this project brings: work pool and queue, block types, deployments.
# It may be run again at any time. Run it from the root of a checkout: that folder is where workers look for the flows.
set -eu
python -m deployments.setup --only-pool --no-prompt
prefect block register --module blocks
prefect --no-prompt deploy --all --prefect-file deployments/prefect.yaml
