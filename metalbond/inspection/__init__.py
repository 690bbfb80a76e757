"""A running server or client, looked at over gRPC: `service` answers, `feed` follows changes, `show` asks."""
