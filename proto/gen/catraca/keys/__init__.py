"""Generated from proto/ by `make gen`: change the .proto file, never this folder."""
