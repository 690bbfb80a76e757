"""`dpservice-dump`: packets on their way through an engine."""
