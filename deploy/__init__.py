"""What it takes to have a stand, and to run campaigns, on a Kubernetes cluster: values, manifests, an image; data, no code."""
