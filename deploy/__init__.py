"""What it takes to run campaigns on a Kubernetes cluster: an image, manifests, values of NATS' chart; data, no code."""
