"""The real stand: an OpenTelemetry Demo on a Kubernetes cluster. What it is made of, whether a cluster is one, what is wrong with it."""
