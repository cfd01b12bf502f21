"""What a search would take, before it is run: networks, room on the disk, time; and what of it cannot work."""
