"""One owner at a time: leases on names and files, shared by processes and machines."""
