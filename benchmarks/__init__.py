"""What Oneiric costs, as ratios to a floor measured in the same run; and the long figures, in `benchmarks.soak`."""
