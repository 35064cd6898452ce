"""SaleService: sales are defined, paused and archived here."""
