"""What a run is. Pure: no clock, no disk, no Redis."""
