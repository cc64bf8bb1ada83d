"""Many clusters: what they say now, and which of them a job goes to."""
