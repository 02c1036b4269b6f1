"""What a measure shows without training: random updates of equal norm and rank, noise, storage rounding."""
