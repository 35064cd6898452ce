"""A whole sale driven by simulated buyers over real gRPC, measured and judged by what each was told."""
