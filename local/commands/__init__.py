"""The subcommands of `catraca`. Each module has `add_parser(subparsers)`, which sets `run(args) -> int`."""
