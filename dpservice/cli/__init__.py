"""The command line client `dpservice-cli`."""
