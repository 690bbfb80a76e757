"""Received routes in the routing tables of Linux: `plan` decides, `codec` translates, `netlink` and `installer` act."""
