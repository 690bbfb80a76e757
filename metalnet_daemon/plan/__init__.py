"""Pure decisions of the host: no I/O, no clock."""
