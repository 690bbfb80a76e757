"""The web page of a running server or client, its routes as JSON and YAML, metrics and health."""
