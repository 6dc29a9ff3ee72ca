"""The embedded stand: a simulated OpenTelemetry Demo behind real HTTP servers."""
