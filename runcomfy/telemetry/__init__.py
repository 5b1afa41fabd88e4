"""What a generation did and cost, as OpenTelemetry metrics and traces: nothing, until somebody configures an SDK."""
