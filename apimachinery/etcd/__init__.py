"""etcd: connection, transactions, watches, leases, elections, and a private server process."""
