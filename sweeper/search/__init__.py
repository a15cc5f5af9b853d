"""Search: points are asked of an Optuna sampler and told what came of them. The only package that imports optuna."""
