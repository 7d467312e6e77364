"""What an operator sees of the service: metrics, logs, request ids, traces."""
