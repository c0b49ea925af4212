"""Run a scenario again and again until it is sure how often it fails; keep the first Mac on which it did."""
