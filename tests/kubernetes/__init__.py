"""The manifests of deploy/kubernetes against a real Kubernetes API server, which admits or refuses; nothing runs."""
