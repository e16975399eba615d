"""Metrics, traces and logs of a running server. Knows no stage, no gRPC and no Ray."""
