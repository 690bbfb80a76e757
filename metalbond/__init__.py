"""Route distribution between hypervisors and routers: wire protocol, server, client library."""
