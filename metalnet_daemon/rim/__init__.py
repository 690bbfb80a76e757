"""Everything of the host that does I/O: the engine's control calls, route distribution, the API, the disk."""
