"""Devices that carry the packets of VMs: which exist, how the engine calls them, who has which."""
