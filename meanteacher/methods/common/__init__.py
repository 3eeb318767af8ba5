"""Parts that several methods share: losses, averages, mixup, pseudo-label weights, alignment, perturbations."""
