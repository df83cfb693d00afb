"""Programs that print figures: ratios against a bare loop or a peer, taken in the same run."""
