"""What a generation did and cost, as OpenTelemetry metrics and traces: nothing, until an SDK is configured.

`metrics` and `tracing` emit them, `request` measures one request, and `activation` sets up an SDK.
"""
