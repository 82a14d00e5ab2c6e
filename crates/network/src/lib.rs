//! Bridges, addresses, firewall rules and published ports, over netlink alone.
