"""What a metric shows without training: random updates of equal norm and rank, noise, storage rounding."""
