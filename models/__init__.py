"""Model variants, in torch only; import name `sweeper_models`. Nothing here imports `sweeper`."""
