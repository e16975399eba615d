"""What can be seen of a running Headlift: metrics, traces and logs. Knows no stage, no gRPC and no Ray."""
