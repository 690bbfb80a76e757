"""What is particular to each kind of the metalnet API group."""
