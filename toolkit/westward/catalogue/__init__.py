"""What is known of sites and chips: YAML in, values out, every figure with its source."""
