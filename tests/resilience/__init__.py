"""What a cache must survive: kills, power cuts, full disks, damage, hostile files, and new versions."""
